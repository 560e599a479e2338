"""An incident bundle in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from steadygrad.bundles import STATE, STEP, Bundle, bundles_of, read_bundle
from steadygrad.errors import UsageError
from steadygrad.records import Reading
from steadygrad.recover.evidence import readings_from_values


@dataclass(frozen=True, slots=True)
class Case:
    """What a bundle holds.

    Attributes:
        bundle: its place and its facts.
        step: what ``step.pt`` holds.
        state: what ``state.pt`` holds; None where parameters and optimizer were left out.
    """

    bundle: Bundle
    step: Mapping[str, Any]
    state: Mapping[str, Any] | None

    @property
    def optimizer(self) -> int:
        """Index of the optimizer whose step it was."""
        return int(self.bundle.facts["optimizer"])

    @property
    def loss(self) -> float | None:
        """The loss that was logged; None where none was."""
        return None if (loss := self.bundle.facts["loss"]) is None else float(loss)

    @property
    def total_norm(self) -> float:
        """The total norm that was measured."""
        norm = self.bundle.facts["total_norm"]
        return math.nan if norm is None else float(norm)

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of the batch that carried the fault, as far as was known then."""
        origin = self.bundle.facts["origin"] or {}
        return tuple(origin.get("rows", ()))

    def readings(self) -> list[Reading]:
        """The Readings of its optimizer before the step, oldest first."""
        lanes = [readings_from_values(columns) for columns in self.step["readings"]]
        return [
            one
            for lane in lanes
            for one in lane
            if one.optimizer == self.optimizer and one.step < self.bundle.step
        ]


def open_case(path: Path) -> Case:
    """Read a bundle.

    Raises:
        UsageError: it is none, or can't be read.
    """
    if not (path / STEP).is_file():
        raise UsageError(f"{path} is no incident bundle: there is no {STEP} in it. {_hint(path)}")
    try:
        bundle = read_bundle(path)
        step = torch.load(path / STEP, weights_only=True, map_location="cpu")
        has_state = (path / STATE).is_file()
        state = torch.load(path / STATE, weights_only=True, map_location="cpu") if has_state else None
    except Exception as error:
        what = str(error).partition("\n")[0]
        raise UsageError(
            f"the bundle {path} can't be read ({type(error).__name__}: {what}). Take another one."
        ) from error
    return Case(bundle, step, state)


def _hint(path: Path) -> str:
    if not path.exists():
        return "There is no such folder. `steadygrad explain RUN` names the bundles of a run."
    inside = [one.name for one in sorted(path.glob("step-*"))] if path.is_dir() else []
    if inside:
        return f"It is a folder of {len(inside)}; take one: {path / inside[0]}."
    found = bundles_of(path) if path.is_file() else []
    if found:
        return f"It is a run; its first bundle is {found[0].path}."
    return "`steadygrad explain RUN` names the bundles of a run."
