"""NaN and Inf in the gradient, and a loss scaler that never gets away from them.

Shape legend: P gradient tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import listed, make
from steadygrad.detect.growth import growth_per_step, ratio
from steadygrad.records import Finding, Reading

_FIRST_STEPS = 5
"""Finite steps up to which a first update may have ruined the weights before any growth could show."""


class NonfiniteState(NamedTuple):
    """What came before a non-finite step.

    Attributes:
        totals: the newest finite total norms above 0, oldest first.
        streak: whether the newest reading was non-finite.
    """

    totals: tuple[float, ...] = ()
    streak: bool = False


@dataclass(frozen=True, slots=True)
class NonfiniteGradient:
    """A gradient holds a NaN or an Inf, and no loss scaler is looking for its scale.

    Backward runs from the output to the input, and what it makes non-finite stays so on its way. So
    of the tensors affected, the last in model order is the nearest to where it began. Where all are
    affected, the loss or the forward pass is suspect; in the first steps of a run the update too, which
    can overshoot so far that no growth shows before.

    Attributes:
        memory: finite readings kept to tell a growth that ended in overflow from a sudden fault; 8,
            because an explosion takes no more than a few steps from noticeable to Inf.
        growth: rise of the total norm over them that counts as an explosion; 30 is what a healthy
            run keeps below for four steps in a row (see `ExplodingGradient`).
    """

    memory: int = 8
    growth: float = 30.0

    def start(self) -> NonfiniteState:
        """Nothing seen yet."""
        return NonfiniteState()

    def observe(
        self, state: NonfiniteState, reading: Reading, context: Context
    ) -> tuple[NonfiniteState, Finding | None]:
        """Report the first non-finite reading of each streak."""
        total = reading.total_norm
        if math.isfinite(total):
            if total <= 0.0:
                return (state._replace(streak=False) if state.streak else state), None
            return NonfiniteState((*state.totals[1 - self.memory :], total), streak=False), None
        if reading.overflow:
            return state, None
        indices = np.flatnonzero(~np.isfinite(reading.norms)).tolist()
        if not indices:  # every norm is finite, only their sum of squares isn't
            return state, None
        finding = None if state.streak else self._report(indices, state, reading, context)
        return state._replace(streak=True), finding

    def _report(
        self, indices: list[int], state: NonfiniteState, reading: Reading, context: Context
    ) -> Finding:
        present = reading.norms.size - (0 if reading.absent is None else int(reading.absent.sum()))
        names = [context.name(i) for i in reversed(indices)]
        nan = int(np.isnan(reading.norms).sum())
        before = [math.log(total) for total in state.totals]
        rise = ratio(before[-1] - min(before)) if before else 1.0
        exploded = rise >= self.growth
        evidence = {
            "count": len(indices),
            "share": len(indices) / present,
            "nan": nan,
            "inf": len(indices) - nan,
            "total_norm_before": state.totals[-1] if before else math.nan,
            "rise_before": rise,
            "growth_per_step": growth_per_step(before),
        }
        kind = "NaN" if nan == len(indices) else "Inf" if not nan else "NaN or Inf"
        place = _place(kind, names, present, early=0 < len(before) < _FIRST_STEPS)
        history = f"the norm had grown {rise:.2g}-fold just before" if exploded else "no growth came before"
        skipped = "; the step was skipped" if reading.skipped else ""
        return make(
            "nonfinite_gradient",
            "error",
            reading.step,
            f"{place}; {history}{skipped}.",
            where=names,
            evidence=evidence,
            optimizer=context.optimizer,
            guarded=context.mode == "guard",
        )


def _place(kind: str, names: list[str], present: int, *, early: bool) -> str:
    if len(names) >= present:
        update = ", or the first update was too large" if early else ""
        return f"{kind} in the gradient of all {present} tensors: the loss or the forward pass is suspect{update}"
    return (
        f"{kind} in {len(names)} of {present} gradients; nearest to the output, so closest to the origin: "
        f"{listed(names[:1])}"
    )


class StreakState(NamedTuple):
    """Overflow steps in a row.

    Attributes:
        began: step of the first.
        length: how many so far.
    """

    began: int = 0
    length: int = 0


STREAK = 16
"""Overflow steps in a row: a GradScaler begins at 2**16 and halves at each, so that after 16 the scale is 1, where
only a true NaN or Inf is left."""


@dataclass(frozen=True, slots=True)
class OverflowStreak:
    """The loss scaler halves and halves its scale, and the gradient stays non-finite.

    Attributes:
        length: overflow steps in a row.
    """

    length: int = STREAK

    def start(self) -> StreakState:
        """No overflow yet."""
        return StreakState()

    def observe(
        self, state: StreakState, reading: Reading, context: Context
    ) -> tuple[StreakState, Finding | None]:
        """Count; report when the streak reaches its length, and again at each doubling of it."""
        if not reading.overflow:
            return (StreakState() if state.length else state), None
        length = state.length + 1
        grown = StreakState(state.began if state.length else reading.step, length)
        if length % self.length or (length // self.length).bit_count() != 1:
            return grown, None
        indices = np.flatnonzero(~np.isfinite(reading.norms)).tolist()
        names = [context.name(i) for i in reversed(indices)]
        return grown, overflow_streak(grown.began, length, names, context.optimizer)


def overflow_streak(step: int, length: int, names: Sequence[str], optimizer: int = 0) -> Finding:
    """The loss scaler has left out so many steps that a scale would have been found.

    Args:
        step: the first of them.
        length: how many.
        names: tensors whose gradient isn't finite.
        optimizer: index of the optimizer.
    """
    place = f" ({listed(names)})" if names else ""
    return make(
        "overflow_streak",
        "warning",
        step,
        f"The loss scaler skipped {length} steps in a row and found no scale{place}: a true NaN or "
        "Inf is behind it.",
        where=names,
        evidence={"steps": length, "count": len(names)},
        optimizer=optimizer,
    )
