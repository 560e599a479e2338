"""A step of SGD that is longer than all gradients so far could have made it: its momentum buffer is broken.

The buffer is ``b <- mu b + g``, so its norm is at most the geometric sum of the gradients' norms,
``B <- mu B + |g|``, tensor by tensor. Weight decay adds ``wd |w|`` to each gradient.

Shape legend: P gradient tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import listed, make
from steadygrad.records import BoolArray, Finding, FloatArray, Reading

_ROUNDING = 1e-5
"""Relative length that rounding alone can add to a step in float32."""


class MomentumState(NamedTuple):
    """What the buffers can hold.

    Attributes:
        bound: geometric sum of the gradients' norms, ``[P]``; None before the first.
        measured: whether a step has been measured: buffers from before this run have shown their size then.
        over: it has been told, or a NaN went in and there is no bound any more.
    """

    bound: FloatArray | None = None
    measured: bool = False
    over: bool = False


@dataclass(frozen=True, slots=True)
class MomentumCorrupt:
    """A measured step is far beyond what the gradients so far can have left in the momentum buffers.

    What the buffers held before the run began isn't known: the first measured step shows it, and isn't judged.

    Attributes:
        factor: times the bound; the same as of `OptimizerStateCorrupt`.
    """

    factor: float = 10.0

    def start(self) -> MomentumState:
        """Nothing in the buffers."""
        return MomentumState()

    def observe(
        self, state: MomentumState, reading: Reading, context: Context
    ) -> tuple[MomentumState, Finding | None]:
        """Add one reading's gradients; judge it where its step was measured."""
        if context.momentum is None or state.over or reading.skipped or reading.overflow:
            return state, None
        if not math.isfinite(reading.total_norm):
            return state._replace(over=not np.isfinite(reading.norms).all()), None
        bound = _added(state.bound, reading, context.momentum)
        if reading.update_norms is None or reading.param_norms is None or not reading.lr > 0.0:
            return MomentumState(bound, state.measured), None
        return self._measured(MomentumState(bound, state.measured), reading, context)

    def _measured(
        self, state: MomentumState, reading: Reading, context: Context
    ) -> tuple[MomentumState, Finding | None]:
        bound, moved, lengths = state.bound, reading.update_norms, reading.param_norms
        if bound is None or moved is None or lengths is None or context.momentum is None:
            return state, None
        size = min(bound.size, moved.size, lengths.size, len(context.tensors))
        steps = moved[:size] / reading.lr
        if not state.measured:
            first = bound.copy()
            np.fmax(first[:size], np.where(np.isfinite(steps), steps, 0.0), out=first[:size])
            return MomentumState(first, measured=True), None
        decayed = context.weight_decay * lengths[:size] / (1.0 - context.momentum)
        allowed = self.factor * (bound[:size] + reading.norms[:size] + decayed)
        beyond: BoolArray = np.isfinite(steps) & (steps > allowed + _ROUNDING * lengths[:size] / reading.lr)
        if not beyond.any():
            return state, None
        return state._replace(over=True), _report(beyond, moved, reading, context)


def _added(bound: FloatArray | None, reading: Reading, momentum: float) -> FloatArray:
    norms = reading.norms
    if bound is None:
        return norms.astype(np.float64)
    if bound.size < norms.size:  # parameters joined
        bound = np.concatenate([bound, np.zeros(norms.size - bound.size)])
    grown = momentum * bound[: norms.size] + norms
    # Without a gradient a buffer isn't touched, so it doesn't fade either.
    return grown if reading.absent is None else np.where(reading.absent, bound[: norms.size], grown)


def _report(beyond: BoolArray, moved: FloatArray, reading: Reading, context: Context) -> Finding:
    indices = np.flatnonzero(beyond).tolist()
    names = [context.name(i) for i in indices]
    longest = float(np.max(moved[indices]))
    return make(
        "optimizer_state_corrupt",
        "error",
        reading.step,
        f"The step moved {listed(names[:2])} by {longest:.3g}, more than all gradients so far can have put into "
        f"the momentum at a learning rate of {reading.lr:.3g}: what the optimizer keeps between steps is broken.",
        where=names,
        evidence={"update_norm": longest, "lr": reading.lr, "tensors": len(indices)},
        optimizer=context.optimizer,
    )
