"""The gradient dies on its way to the input, or never exists.

Weights and biases are judged apart. A weight's gradient is the signal from below times the gradient
from above, so where both shrink with depth it can be flat; a bias receives the gradient from above
alone. Falling norms of all layers together are no fault: that is convergence.

Shape legend: P gradient tensors, L tensors of one family in model order, R readings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from steadygrad.detect.detector import Context
from steadygrad.detect.finding import listed, make
from steadygrad.detect.growth import slope
from steadygrad.records import BoolArray, Finding, FloatArray, Reading, TensorInfo

_FLOOR = -60.0
"""Log10 that stands for a gradient of exactly zero: below every float32."""


class FadeState(NamedTuple):
    """Readings gathered for the next verdict.

    Attributes:
        readings: the gathered ones.
        seen: readings taken in, those with a gradient somewhere.
        zeros: readings in a row whose gradients were all exactly zero.
    """

    readings: tuple[Reading, ...] = ()
    seen: int = 0
    zeros: int = 0


class Fade(NamedTuple):
    """Decay of the gradient towards the input in one family of tensors.

    Attributes:
        indices: the tensors, in model order; where half or more are exactly zero, only those.
        gain_per_layer: factor from one tensor to the next towards the input.
        span: gradient at the input end over that at the output end, by the fit.
        zero: how many tensors have a gradient of exactly zero.
        family: how many tensors were compared.
    """

    indices: tuple[int, ...]
    gain_per_layer: float
    span: float
    zero: int
    family: int


@dataclass(frozen=True, slots=True)
class VanishingGradient:
    """Gradients decay from layer to layer, or are exactly zero.

    The gradient of a tensor is taken as its root mean square (norm over square root of size), as the
    median over the readings gathered: one step of a zero-initialised branch says nothing.

    Attributes:
        count: readings for a verdict: the first 20, later one of 16 steps, 20 times.
        every: spacing of the later ones.
        span: fitted decay over the whole depth that counts. Of 30 recorded stable runs the lowest had
            6e-5 (30 layers with LayerNorm and no residual, which hardly learns; the next 4e-2), of
            the decaying ones the highest had 6e-6.
        quarters: decay that must also show between the best-fed tensors of the first and the last
            quarter, so that single tensors can't make the fit (a convolution's bias before BatchNorm
            has no gradient but rounding).
        weights: tensors a family of weights must have to be judged; in fewer, the depth is too small
            to tell decay from the difference between an input layer and a head.
        biases: the same for vectors; a quarter must hold two of them.
        young: readings with a gradient before an all-zero streak that still count as a faulty start;
            later it can be a loss that reached zero.
    """

    count: int = 20
    every: int = 16
    span: float = 1e-5
    quarters: float = 1e-3
    weights: int = 6
    biases: int = 8
    young: int = 32

    def start(self) -> FadeState:
        """Nothing gathered yet."""
        return FadeState()

    def observe(
        self, state: FadeState, reading: Reading, context: Context
    ) -> tuple[FadeState, Finding | None]:
        """Gather readings; judge when there are enough."""
        total = reading.total_norm
        if total == 0.0:
            return self._all_zero(state, reading, context)
        if reading.overflow or not math.isfinite(total):
            return state, None
        readings, seen, _ = state
        if seen >= self.count and seen % self.every:
            return FadeState(readings, seen + 1), None
        readings = (*readings, reading)
        if len(readings) < self.count:
            return FadeState(readings, seen + 1), None
        return FadeState((), seen + 1), self._judge(readings, context)

    def _all_zero(
        self, state: FadeState, reading: Reading, context: Context
    ) -> tuple[FadeState, Finding | None]:
        untouched = reading.absent is not None and bool(reading.absent.all())
        if untouched or reading.loss == 0.0 or not reading.norms.size:
            return state, None
        zeros = state.zeros + 1
        state = state._replace(zeros=zeros)
        if zeros != self.count:
            return state, None
        began = "from the start" if state.seen == 0 else f"after {state.seen} steps with one"
        return state, make(
            "vanishing_gradient",
            "warning" if state.seen < self.young else "info",
            max(reading.step - zeros + 1, 0),
            f"All {reading.norms.size} gradients are exactly 0 for {zeros} steps, {began}: "
            "nothing the parameters do changes the loss.",
            where=[context.name(i) for i in range(reading.norms.size)],
            evidence={"steps": zeros, "steps_before": state.seen, "total_norm": 0.0},
            optimizer=context.optimizer,
        )

    def _judge(self, readings: tuple[Reading, ...], context: Context) -> Finding | None:
        log_rms, present = _usual_log_rms(readings, context)
        tensors = context.tensors
        usable = [i for i in np.flatnonzero(present).tolist() if tensors[i].trainable]
        weights = tuple(i for i in usable if _is_weight(tensors[i]))
        biases = tuple(i for i in usable if len(tensors[i].shape) == 1)
        for family, least in ((weights, self.weights), (biases, self.biases)):
            fade = _dead_end(family, log_rms[list(family)]) or (
                self._decay(family, log_rms[list(family)]) if len(family) >= least else None
            )
            if fade is not None:
                return self._report(fade, _began(fade, readings), context)
        return None

    def _decay(self, indices: tuple[int, ...], log_rms: FloatArray) -> Fade | None:
        drop = -slope(log_rms.tolist())  # decades from one tensor to the next towards the input
        span = drop * (log_rms.size - 1)
        best = [float(part.max()) for part in np.array_split(log_rms, 4)]
        steady = all(after > before - 0.5 for before, after in pairwise(best))
        if span > math.log10(self.span) or best[0] - best[-1] > math.log10(self.quarters) or not steady:
            return None
        zero = int((log_rms == _FLOOR).sum())
        if zero * 2 >= len(indices):
            indices = tuple(i for i, rms in zip(indices, log_rms.tolist(), strict=True) if rms == _FLOOR)
        return Fade(indices, 10.0**drop, 10.0**span, zero, log_rms.size)

    def _report(self, fade: Fade, step: int, context: Context) -> Finding:
        names = [context.name(i) for i in fade.indices]
        if fade.zero * 2 >= fade.family:
            story = f"The gradient of {fade.zero} of {fade.family} tensors is exactly 0: {listed(names)}."
        else:
            story = (
                f"The gradient shrinks to {fade.gain_per_layer:.2g} of itself per layer towards the input, "
                f"{fade.span:.1g} over {fade.family} tensors; smallest at {listed(names[:1])}."
            )
        evidence = {
            "gain_per_layer": fade.gain_per_layer,
            "span": fade.span,
            "tensors": fade.family,
            "zero": fade.zero,
        }
        return make(
            "vanishing_gradient",
            "warning",
            step,
            story,
            where=names,
            evidence=evidence,
            optimizer=context.optimizer,
        )


def _usual_log_rms(readings: tuple[Reading, ...], context: Context) -> tuple[FloatArray, BoolArray]:
    """Median log10 of each tensor's root mean square, and which had a gradient in all readings."""
    size = min(len(context.tensors), *(reading.norms.size for reading in readings))
    numel = np.array([math.prod(tensor.shape) for tensor in context.tensors[:size]], dtype=np.float64)
    present = numel > 0
    for reading in readings:
        if reading.absent is not None:
            present &= ~reading.absent[:size]
    norms = np.median([reading.norms[:size].astype(np.float64) for reading in readings], axis=0)
    log_rms = np.full(size, _FLOOR)
    np.log10(norms / np.sqrt(np.maximum(numel, 1.0)), out=log_rms, where=norms > 0.0)
    return log_rms, present


def _began(fade: Fade, readings: Sequence[Reading]) -> int:
    """Step of the first reading that shows it: gradients that are exactly zero may have been there before."""
    if fade.zero * 2 < fade.family:
        return readings[0].step
    dead = list(fade.indices)
    there = [one for one in readings if one.norms.size > max(dead)]
    return next((one.step for one in there if not one.norms[dead].any()), readings[0].step)


def _is_weight(tensor: TensorInfo) -> bool:
    """Matrices and kernels, without embeddings: their rows have a gradient only when looked up."""
    shape = tensor.shape
    embedding = len(shape) == 2 and shape[0] >= 1000 and shape[0] >= 4 * shape[1]
    return len(shape) >= 2 and not embedding


def _dead_end(indices: tuple[int, ...], log_rms: FloatArray) -> Fade | None:
    """Half of the family or more, the whole input side among it, has a gradient of exactly zero."""
    zero = log_rms == _FLOOR
    count = int(zero.sum())
    side = max(2, len(indices) // 4)
    if len(indices) < 2 or count * 2 < len(indices) or not zero[:side].all():
        return None
    dead = tuple(i for i, is_zero in zip(indices, zero.tolist(), strict=True) if is_zero)
    return Fade(dead, 0.0, 0.0, count, len(indices))
