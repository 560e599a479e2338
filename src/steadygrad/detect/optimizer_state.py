"""A step that goes farther than the optimizer's formula allows: what it keeps between steps is broken.

Adam moves an element by ``lr * m / sqrt(v)``. Both are sums over the same gradients, so by Cauchy and
Schwarz ``|m| / sqrt(v)`` has a bound whatever the gradients were: 7.3 for betas of 0.9 and 0.999.

Shape legend: P gradient tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import listed, make
from steadygrad.records import BoolArray, Finding, Reading, Remedy

_TOO_LARGE = 1e15
"""Gradient norm whose square, or the square of the step made of it, may pass float32: then that is the fault."""

_ROUNDING = {"float16": 8e-3, "bfloat16": 8e-3}
"""Relative length that rounding alone can add to a step, by dtype of the weights."""

_DIVIDES = "An optimizer of one's own divides by a moment or by a norm, and that is 0 where the gradient or the weights are."
_EPSILON = Remedy("Keep the divisor away from 0", "update = exp_avg / (exp_avg_sq.sqrt() + eps)")


@dataclass(frozen=True, slots=True)
class OptimizerStateCorrupt:
    """A measured step is beyond the bound, or no number although gradient and weights are.

    Looked at on the steps that are measured, of which many lie at the start: that is where a state comes
    from a checkpoint that doesn't belong to it. A moment that breaks later is seen when a measured step
    happens to follow soon; else by what it does to the loss.

    The state is whether it has been told.

    Attributes:
        factor: times the bound; a wrapper that adds a move of its own (Lookahead) stays below.
    """

    factor: float = 10.0

    def start(self) -> int:
        """Nothing told."""
        return 0

    def observe(self, state: int, reading: Reading, context: Context) -> tuple[int, Finding | None]:
        """Look at a reading that measures what its step changed."""
        moved, lengths = reading.update_norms, reading.param_norms
        if state or moved is None or lengths is None or reading.skipped or reading.lr <= 0.0:
            return state, None
        if context.descends:  # the gradients that ruined it may be those of a later evaluation
            return state, None
        size = min(len(context.tensors), moved.size, lengths.size, reading.norms.size)
        sound = np.isfinite(lengths[:size]) & np.isfinite(reading.norms[:size])
        # A clip in the loop, which comes after the measurement, spreads one NaN to every gradient.
        made_here = math.isfinite(reading.total_norm)
        broken = sound & ~np.isfinite(moved[:size]) & (reading.norms[:size] < _TOO_LARGE) & made_here
        beyond = sound & self._beyond(reading, context, size)
        if not broken.any() and not beyond.any():
            return state, None
        return 1, self._report(broken, beyond, reading, context)

    def _beyond(self, reading: Reading, context: Context, size: int) -> BoolArray:
        bound, moved, lengths = context.step_bound, reading.update_norms, reading.param_norms
        if bound is None or moved is None or lengths is None:
            return np.zeros(size, np.bool_)
        tensors = context.tensors[:size]
        numel = np.array([max(tensor.numel, 1) for tensor in tensors], np.float64)
        rounding = np.array([_ROUNDING.get(tensor.dtype, 1e-5) for tensor in tensors])
        # What isn't finite is no evidence anyway, and 0 x Inf would warn.
        own = np.nan_to_num(lengths[:size].astype(np.float64), nan=0.0, posinf=0.0)
        allowed = self.factor * reading.lr * (bound * np.sqrt(numel) + context.weight_decay * own)
        beyond: BoolArray = moved[:size] > allowed + rounding * own
        return beyond

    def _report(self, broken: BoolArray, beyond: BoolArray, reading: Reading, context: Context) -> Finding:
        indices = np.flatnonzero(broken if broken.any() else beyond).tolist()
        names = [context.name(i) for i in indices]
        longest = (
            float(np.max(reading.update_norms[indices])) if reading.update_norms is not None else math.nan
        )
        story = (
            f"The step made NaN or Inf of finite gradients and weights in {listed(names[:2])}"
            if broken.any()
            else f"The step moved {listed(names[:2])} by {longest:.3g}, farther than the optimizer's formula allows "
            f"at a learning rate of {reading.lr:.3g}"
        )
        own = context.own_step and bool(broken.any())
        divides = "it divides by 0 there, or " if own else ""
        finding = make(
            "optimizer_state_corrupt",
            "error",
            reading.step,
            f"{story}: {divides}what it keeps between steps is broken.",
            where=names,
            evidence={"update_norm": longest, "lr": reading.lr, "tensors": len(indices)},
            optimizer=context.optimizer,
        )
        if not own:
            return finding
        return replace(finding, causes=(_DIVIDES, *finding.causes), remedies=(_EPSILON, *finding.remedies))


def ruined_state(moments: Sequence[tuple[str, str]], optimizer: int = 0) -> Finding:
    """Optimizer state that holds a NaN or an Inf before the first step.

    Args:
        moments: what the optimizer calls it, and the parameter it belongs to.
        optimizer: index of the optimizer.

    Returns:
        An error-level finding.

    Example:
        >>> print(ruined_state([("exp_avg", "head.weight")]))
        error: optimizer_state_corrupt at step 0: The optimizer's state holds a NaN or an Inf already: exp_avg of head.weight.
    """
    told = listed([f"{moment} of {name}" for moment, name in moments])
    return make(
        "optimizer_state_corrupt",
        "error",
        0,
        f"The optimizer's state holds a NaN or an Inf already: {told}.",
        where=list(dict.fromkeys(name for _, name in moments)),
        evidence={"count": len(moments)},
        optimizer=optimizer,
    )
