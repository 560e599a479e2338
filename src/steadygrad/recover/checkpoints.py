"""Checkpoints that are never ruined: written whole, read back, and only of a state that is finite."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from steadygrad.detect.finding import listed
from steadygrad.errors import UsageError
from steadygrad.ranks import among_several
from steadygrad.records import Incident
from steadygrad.recover.atomic import replacing
from steadygrad.recover.plan import Rollback
from steadygrad.recover.random_states import plain
from steadygrad.recover.soundness import Inspection
from steadygrad.recover.state import Trained, TrainingState

FORMAT = 1


class Outlet(Protocol):
    """Where a refusal is told."""

    def incident(self, incident: Incident) -> None:
        """Something was done."""


class Checkpoints:
    """Saves the state of one training, unless that is ruined.

    Args:
        model: held weakly.
        tracks: its optimizers.
        plan: what else makes the state.
        late: the numbers live on an accelerator.
        outlet: where a refusal is told.
    """

    def __init__(
        self, model: nn.Module, tracks: Sequence[Trained], plan: Rollback, *, late: bool, outlet: Outlet
    ) -> None:
        self._model = weakref.ref(model)
        self._plan = plan
        self._outlet = outlet
        self._state = TrainingState(model, tracks, plan)
        self._inspection = Inspection(late=late)
        self._inspection.exempt_nonfinite(self._state.live())

    def ill(self) -> list[str]:
        """Names of parameters, buffers and optimizer state that are no finite numbers now."""
        return self._inspection.nonfinite_now(self._state.live())

    def save(self, path: str | os.PathLike[str], step: int, learnt: Mapping[str, Any]) -> bool:
        """See `steadygrad.Monitor.save`."""
        target = Path(path)
        if self._refuses(target, step):
            return False
        with replacing(target, reads_back, _writer()) as fresh:
            torch.save(self._everything(step, learnt), fresh)
        return True

    @contextmanager
    def protect(self, path: str | os.PathLike[str], step: int) -> Iterator[Path]:
        """See `steadygrad.Monitor.protect`."""
        target = Path(path)

        def accept(fresh: Path) -> bool:
            if not fresh.is_file():
                raise UsageError(
                    f"protect({str(path)!r}): nothing was written to the path it gave. Use it like "
                    f"`with guard.protect({str(path)!r}) as file: torch.save(state, file)`."
                )
            return not self._refuses(target, step)

        with replacing(target, accept, _writer()) as fresh:
            yield fresh

    def _refuses(self, path: Path, step: int) -> bool:
        ill = self.ill()
        if ill:
            kept = "the file there is left as it was" if path.exists() else "nothing was written"
            reason = f"{path.name} is not saved, since not every number in {listed(ill)} is finite; {kept}"
            self._outlet.incident(Incident(step, "refuse", reason, tuple(ill[:16])))
        return bool(ill)

    def _everything(self, step: int, learnt: Mapping[str, Any]) -> dict[str, Any]:
        model, plan, rest = self._model(), self._plan, self._state.rest()
        found: dict[str, Any] = {
            "format": FORMAT,
            "step": step,
            "model": {} if model is None else model.state_dict(),
            "optimizers": [one.state_dict() for one in self._state.optimizers],
            "guard": dict(learnt),
            **rest,
            "random": plain(rest["random"]),
        }
        if plan.scaler is not None:
            found["scaler"] = plan.scaler.state_dict()
        if plan.average is not None:
            found["average"] = plan.average.state_dict()
        return found


def _writer() -> str:
    """Tells the ranks of one training apart, which may all save to one path."""
    return f".{torch.distributed.get_rank()}" if among_several() else ""


def reads_back(path: Path) -> bool:
    """True; raises a UsageError unless the file loads as the docstring promises. Only its index is read."""
    try:
        torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except Exception as error:
        raise UsageError(
            "save(): a state dict of the model, an optimizer, a scheduler or the loader holds an object that "
            f"torch.load(weights_only=True) won't read: {str(error).partition(chr(10))[0]} Save with "
            "`with guard.protect(path) as file: torch.save(..., file)` what you need."
        ) from error
    return True
