"""No gradient at all, or none for some of the parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import listed, make
from steadygrad.records import BoolArray, Finding, Reading, Severity


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
        routed: whether others had one in some of them and none in others.
    """

    first: int = 0
    began: int = 0
    steps: int = 0
    unfed: BoolArray | None = None
    routed: bool = False


@dataclass(frozen=True, slots=True)
class DisconnectedParameters:
    """Some trainable parameters had no gradient while others had one.

    Parameters that join the run later are watched from there on.

    Attributes:
        steps: readings to wait; 16, so that branches that are drawn at random (layer drop, experts)
            have had their turn: a branch used every fourth step is blamed in 1 % of the runs.
        routed_steps: readings to wait where gradients come and go, or where all that have none are one of
            several alike (``experts.6`` of ``experts.0`` to ``7``): experts that are seldom chosen. Where the
            latter still have none then, it is a note: nothing is cut off, nobody asks them.
    """

    steps: int = 16
    routed_steps: int = 64

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
        steps = state.steps + 1
        # Who had no gradient so far and has one now, or the other way round: it comes and goes.
        before = unfed if state.unfed is None else state.unfed[: unfed.size]
        routed = state.routed or not np.array_equal(absent[state.first :][: unfed.size], before)
        if steps == self.steps and not routed:
            routed = _are_one_of_several(unfed, state.first, reading, context)
        if steps < (self.routed_steps if routed else self.steps):
            return UnfedState(state.first, began, steps, unfed, routed), None
        indices = [i for i in (np.flatnonzero(unfed) + state.first).tolist() if context.trainable(i)]
        settled = UnfedState(first=state.first + unfed.size)
        if not indices:
            return settled, None
        severity: Severity = (
            "info" if _are_one_of_several(unfed, state.first, reading, context) else "warning"
        )
        return settled, self._report(indices, began, steps, size, severity, context)

    def _report(
        self, indices: list[int], began: int, steps: int, size: int, severity: Severity, context: Context
    ) -> Finding:
        names = [context.name(i) for i in indices]
        summary = (
            f"{len(names)} of {size} parameters had no gradient in {steps} steps while others "
            f"had: {listed(names)}."
        )
        return make(
            "disconnected_parameters",
            severity,
            began,
            summary,
            where=names,
            evidence={"parameters": size, "without_gradient": len(names), "steps": steps},
            optimizer=context.optimizer,
        )


def _are_one_of_several(unfed: BoolArray, first: int, reading: Reading, context: Context) -> bool:
    """Whether each tensor without a gradient has a twin with one: the same name but for a number in it."""
    absent = reading.absent if reading.absent is not None else np.zeros(reading.norms.size, np.bool_)
    fed = {_pattern(context.name(i)) for i in np.flatnonzero(~absent).tolist()}
    missing = [context.name(i) for i in (np.flatnonzero(unfed) + first).tolist()]
    return bool(missing) and all(name != _pattern(name) and _pattern(name) in fed for name in missing)


def _pattern(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "#", name)
