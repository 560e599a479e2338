"""What the numbers of a step say of the weights: are they ruined, and where?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from steadygrad.detect.finding import listed, make
from steadygrad.measure import is_sharded, own_part
from steadygrad.policies.relative import facts_of
from steadygrad.records import FloatArray, Reading
from steadygrad.recover.keeper import is_concentrated
from steadygrad.recover.roles import Guarded, Outlet
from steadygrad.recover.soundness import BUFFER, Inspection
from steadygrad.recover.state import TrainingState
from steadygrad.recover.weights import WeightWatch

STREAK = 5
"""Skipped steps in a row that say the weights make the NaN: two or three bad batches in a row do happen."""


class Signs:
    """Looks at parameter norms, at what an inspection has found, and at steps that were left out.

    Args:
        tracks: the optimizers.
        state: what the training holds.
        inspection: knows what was non-finite from the start.
        outlet: knows what was found, and is told.
    """

    def __init__(
        self, tracks: Sequence[Guarded], state: TrainingState, inspection: Inspection, outlet: Outlet
    ) -> None:
        self._tracks = tracks
        self._state = state
        self._inspection = inspection
        self._outlet = outlet
        self._watches = [WeightWatch(track.table.tensors) for track in tracks]
        self._streaks = [0] * len(tracks)
        self._made = [False] * len(tracks)

    @property
    def any_streak(self) -> bool:
        """Whether the newest step of an optimizer was left out."""
        return any(self._streaks)

    def meet(self) -> None:
        """The first step begins: lazy modules have their shapes by now."""
        for watch, track in zip(self._watches, self._tracks, strict=True):
            watch.meet(track.table.tensors)

    def forget(self) -> None:
        """The weights have been put back, or others were loaded."""
        for watch in self._watches:
            watch.forget()

    def ruined(self, reading: Reading, ill: Sequence[str]) -> tuple[str, list[str]]:
        """Why the state is ruined, and where; an empty reason while it isn't.

        Args:
            reading: of the step just made.
            ill: what was found looking through the state.
        """
        track = self._tracks[reading.optimizer]
        self._made[reading.optimizer] = self._made[reading.optimizer] or not reading.skipped
        suspects = self._suspects(reading, track)
        norms = reading.param_norms
        bad = [] if norms is None else self._names(track, _nonfinite(track, norms))
        if bad:
            return f"non-finite parameters in {listed(bad)}", bad
        deep = [name for name in ill if not name.startswith(f"{BUFFER} ")]
        if deep:
            return self._corrupt(reading, deep), deep
        params = track.table.params
        struck = [
            i
            for i in suspects
            if norms is not None
            and is_concentrated(params[i], float(norms[i]) if is_sharded(params[i]) else None)
        ]
        names = self._names(track, struck)
        if names:
            return (
                f"{listed(names)} grew in a few elements, by more than the updates can have moved them",
                names,
            )
        return "", []

    def none(self, reading: Reading) -> None:
        """Take in a step that was made, with nothing found and no weights measured: there is nothing to judge."""
        self._made[reading.optimizer] = True
        self._watches[reading.optimizer].add(reading)
        self._streaks[reading.optimizer] = 0

    def streak(self, reading: Reading) -> bool:
        """Whether so many steps in a row were left out that it must be the weights."""
        index = reading.optimizer
        if not reading.skipped:
            self._streaks[index] = 0
        elif not reading.overflow:
            self._streaks[index] += 1
            return self._streaks[index] == STREAK
        return False

    def has_made(self, optimizer: int) -> bool:
        """Whether a step of this optimizer was finite since the guard began: then its steps can be."""
        return self._made[optimizer]

    def input_is_ill(self, reading: Reading) -> bool:
        """Whether it was the input in one of the steps of the streak."""
        began = reading.step - self._streaks[reading.optimizer]
        return any(one.kind == "nonfinite_input" and one.step > began for one in self._outlet.findings)

    def _suspects(self, reading: Reading, track: Guarded) -> list[int]:
        optimizer = track.optimizer
        watch = self._watches[reading.optimizer]
        if optimizer is None:
            return []
        if len(watch) != len(track.table):
            watch.meet(track.table.tensors)
        if reading.param_norms is None:  # nearly always: then there is nothing to compare
            watch.suspects(reading, "other", 0.0)
            return []
        facts = facts_of(track.table.hyper(optimizer.param_groups))
        found: list[int] = watch.suspects(reading, facts.kind, facts.momentum).tolist()
        return found

    def _corrupt(self, reading: Reading, names: list[str]) -> str:
        kind = "nonfinite_parameter" if names[0] in self._state.params() else "optimizer_state_corrupt"
        summary = f"impossible or non-finite numbers in {listed(names)}"
        self._outlet.finding(make(kind, "error", reading.step, summary, where=names, guarded=True))
        return summary

    def _names(self, track: Guarded, positions: Sequence[int]) -> list[str]:
        names = [track.table.tensors[i].name for i in positions if i < len(track.table)]
        return [name for name in names if not self._inspection.is_exempt(name)]


def _nonfinite(track: Guarded, norms: FloatArray) -> list[int]:
    """Positions of ruined parameters. Of one that is cut each rank says so of its own part."""
    params, layout = track.table.params, track.table.layout
    return [
        i
        for i, norm in enumerate(norms.tolist())
        if not math.isfinite(norm)
        and not (
            (layout is not None or is_sharded(params[i]))
            and bool(torch.isfinite(own_part(params[i].detach())).all())
        )
    ]
