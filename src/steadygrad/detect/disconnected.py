"""No gradient at all, or none for some of the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import listed, make
from steadygrad.records import BoolArray, Finding, Reading


class CutState(NamedTuple):
    """Readings without any gradient.

    Attributes:
        seen: readings taken in.
        cut: how many of the newest, in a row, had no gradient at all.
        told: whether this row of them has been reported.
    """

    seen: int = 0
    cut: int = 0
    told: bool = False


@dataclass(frozen=True, slots=True)
class DisconnectedLoss:
    """No gradient at all, at the very first step or in many in a row: the loss doesn't reach the parameters.

    Attributes:
        steps: readings in a row that count later in a run; 8, because an optimizer may well step
            once without a gradient (a part of the model that is trained in turns), but such a step
            does nothing.
    """

    steps: int = 8

    def start(self) -> CutState:
        """Nothing seen yet."""
        return CutState()

    def observe(self, state: CutState, reading: Reading, context: Context) -> tuple[CutState, Finding | None]:
        """Count readings in a row without any gradient."""
        absent = reading.absent
        if absent is None or not absent.size or not absent.all():
            return (CutState(state.seen + 1) if state.cut or not state.seen else state), None
        seen, cut = state.seen + 1, state.cut + 1
        if state.told or (state.seen and cut < self.steps):
            return CutState(seen, cut, state.told), None
        return CutState(seen, cut, told=True), self._report(cut, absent.size, reading, context)

    def _report(self, cut: int, size: int, reading: Reading, context: Context) -> Finding:
        everything = [context.name(i) for i in range(size)]
        names = [name for i, name in enumerate(everything) if context.trainable(i)] or everything
        span = f" in {cut} steps in a row, after steps with one" if cut > 1 else ""
        return make(
            "disconnected_loss",
            "error",
            max(reading.step - cut + 1, 0),
            f"None of the {size} parameters has a gradient{span} ({listed(names)}): clipping and step did "
            "nothing; the loss isn't connected to them.",
            where=names,
            evidence={"parameters": size, "without_gradient": size, "steps": cut},
            optimizer=context.optimizer,
        )


class UnfedState(NamedTuple):
    """Parameters that had no gradient so far.

    Attributes:
        first: index of the first parameter under watch; those before it are settled.
        began: step of the first reading that counted.
        steps: readings counted.
        unfed: True for parameters without a gradient in all of them, ``[P - first]``.
    """

    first: int = 0
    began: int = 0
    steps: int = 0
    unfed: BoolArray | None = None


@dataclass(frozen=True, slots=True)
class DisconnectedParameters:
    """Some trainable parameters had no gradient while others had one.

    Parameters that join the run later are watched from there on.

    Attributes:
        steps: readings to wait; 16, so that branches that are drawn at random (layer drop, experts)
            have had their turn: a branch used every fourth step is blamed in 1 % of the runs.
    """

    steps: int = 16

    def start(self) -> UnfedState:
        """Nothing counted yet."""
        return UnfedState()

    def observe(
        self, state: UnfedState, reading: Reading, context: Context
    ) -> tuple[UnfedState, Finding | None]:
        """Count one reading; once all are settled, nothing is left to do."""
        size = reading.norms.size
        if state.first >= size:
            return state, None
        absent = reading.absent
        if absent is None:
            return UnfedState(first=size), None
        if absent.all():
            return state, None
        unfed = (
            absent[state.first :]
            if state.unfed is None
            else state.unfed & absent[state.first :][: state.unfed.size]
        )
        began = state.began if state.steps else reading.step
        if state.steps + 1 < self.steps:
            return UnfedState(state.first, began, state.steps + 1, unfed), None
        indices = [i for i in (np.flatnonzero(unfed) + state.first).tolist() if context.trainable(i)]
        settled = UnfedState(first=state.first + unfed.size)
        return settled, self._report(indices, began, size, context) if indices else None

    def _report(self, indices: list[int], began: int, size: int, context: Context) -> Finding:
        names = [context.name(i) for i in indices]
        summary = (
            f"{len(names)} of {size} parameters had no gradient in {self.steps} steps while others "
            f"had: {listed(names)}."
        )
        return make(
            "disconnected_parameters",
            "warning",
            began,
            summary,
            where=names,
            evidence={"parameters": size, "without_gradient": len(names), "steps": self.steps},
            optimizer=context.optimizer,
        )
