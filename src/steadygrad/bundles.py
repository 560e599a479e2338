"""Where the incident bundles of a run lie, and what each of them is about; read without torch.

A bundle is a folder beside the run file: ``runs/a.steady`` has ``runs/a.incidents/step-000412/``, with

* ``incident.json``: what happened, where, why, with which versions; the findings and the origin;
* ``step.pt``: what the model was given, the gradients that came back, random states, the newest Readings;
* ``state.pt``: parameters, buffers and optimizer state, unless they were too large.

The last two load with ``torch.load(path, weights_only=True)``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadygrad.runfile.finite import loads

FORMAT = 1
FACTS = "incident.json"
STEP = "step.pt"
STATE = "state.pt"
FACTORY = "package.module:factory"

_RUN_SUFFIX = ".steady"
_SUFFIX = ".incidents"


@dataclass(frozen=True, slots=True)
class Bundle:
    """One incident bundle.

    Attributes:
        path: its folder.
        facts: what ``incident.json`` holds.
    """

    path: Path
    facts: Mapping[str, Any]

    @property
    def step(self) -> int:
        """The step it is about."""
        return int(self.facts["step"])

    @property
    def action(self) -> str:
        """What steadygrad did: ``skip``, ``rollback`` or ``stop``."""
        return str(self.facts["action"])

    @property
    def command(self) -> str:
        """The command line that replays it."""
        return f"steadygrad replay {shlex.quote(str(self.path))} --factory {FACTORY}"


def bundles_folder(run: Path) -> Path:
    """The folder for the bundles of a run file."""
    return run.with_name(f"{run.name.removesuffix(_RUN_SUFFIX)}{_SUFFIX}")


def bundles_of(run: Path, started: float | None = None) -> list[Bundle]:
    """The bundles of a run, in the order of their steps; what can't be read is passed over.

    Args:
        run: the run file.
        started: when the run began: a folder may hold bundles of an earlier run of the same name.
    """
    found = [_read(path) for path in sorted(bundles_folder(run).glob("step-*"))]
    known = [one for one in found if one is not None and started in (None, one.facts.get("started"))]
    return sorted(known, key=lambda one: (one.step, one.path.name))


def read_bundle(path: Path) -> Bundle:
    """One bundle.

    Raises:
        OSError: there is no such folder, or no ``incident.json`` in it.
        ValueError: that is none of a bundle this version can read.
    """
    facts = loads((path / FACTS).read_text(encoding="utf-8"))
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ValueError(f"{path / FACTS} is not the {FACTS} of a bundle of format {FORMAT}")
    return Bundle(path, facts)


def _read(path: Path) -> Bundle | None:
    try:
        return read_bundle(path)
    except (OSError, ValueError):
        return None
