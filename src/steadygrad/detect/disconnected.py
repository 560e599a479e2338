"""No gradient at all, or none for some of the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import listed, make
from steadygrad.records import BoolArray, Finding, Reading


@dataclass(frozen=True, slots=True)
class DisconnectedLoss:
    """The very first step has no gradient at all: the loss doesn't lead to the parameters.

    The state is whether the first reading is still to come.
    """

    def start(self) -> bool:
        """The first reading is still to come."""
        return True

    def observe(self, state: bool, reading: Reading, context: Context) -> tuple[bool, Finding | None]:  # noqa: FBT001
        """Judge the first reading; later ones pass."""
        absent = reading.absent
        if not state or absent is None or not absent.size or not absent.all():
            return False, None
        indices = range(absent.size)
        names = [context.name(i) for i in indices if context.trainable(i)] or [
            context.name(i) for i in indices
        ]
        summary = (
            f"None of the {absent.size} parameters has a gradient ({listed(names)}): clipping and step "
            "did nothing; the loss isn't connected to them."
        )
        return False, make(
            "disconnected_loss",
            "error",
            reading.step,
            summary,
            where=names,
            evidence={"parameters": absent.size, "without_gradient": absent.size},
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
