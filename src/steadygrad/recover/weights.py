"""Did a weight move farther than its updates could carry it? Then something else has written to it.

Between two measurements of the weights (ten steps) a tensor's norm can grow by no more than its updates are
long:

* SGD: ``||Δθ|| <= lr / (1 - mu) * Σ ||g||`` over these ten steps and the ten before, whose momentum still runs;
* Adam and its kin: about ``lr`` an element and step, so ``Σ lr * sqrt(numel)``.

A tensor that grew by more, and now consists of a few huge elements, has been corrupted: a flipped bit in
the memory of the weight or of its moments multiplies one element by 2**8 or more. A norm that grew evenly
has been set by the user (a checkpoint loaded, a layer drawn anew), and is none of our business.

Shape legend: P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steadygrad.measure.hyper import Kind
from steadygrad.records import FloatArray, Reading, TensorInfo

SGD_SLACK = 10.0
"""Times the bound, which is exact but for momenta that a schedule moves."""
ADAPTIVE_SLACK = 100.0
"""Times lr an element and step: RMSprop begins with 10, and its momentum multiplies that."""
LEAST_GROWTH = 10.0
"""Times its own norm a tensor must have grown in any case. A flip of the highest bit makes 2**128 of one element;
one that makes 16 of it does no harm that training doesn't mend."""
UNKNOWN_GROWTH = 1000.0
"""The same where the update's formula isn't known."""

_FOLD = 64


class WeightWatch:
    """Compares the growth of each weight's norm with what its updates allow.

    Args:
        tensors: the optimizer's parameters, ``P`` of them.
    """

    def __init__(self, tensors: Sequence[TensorInfo]) -> None:
        self.meet(tensors)

    def __len__(self) -> int:
        """Number of parameters it knows."""
        return len(self._roots)

    def meet(self, tensors: Sequence[TensorInfo]) -> None:
        """Begin again, with these parameters."""
        self._roots: NDArray[np.float64] = np.sqrt(np.array([t.numel for t in tensors], np.float64))
        self.forget()

    def forget(self) -> None:
        """The weights have been put back: the next measurement is the first."""
        self._before: FloatArray | None = None
        self._earlier: NDArray[np.float64] = np.zeros(len(self._roots))
        self._start_again()

    def _start_again(self) -> None:
        self._gradients: NDArray[np.float64] = np.zeros(len(self._roots))
        self._moved: list[tuple[float, FloatArray]] = []
        self._rates = 0.0

    def suspects(self, reading: Reading, kind: Kind, momentum: float) -> NDArray[np.intp]:
        """Positions of tensors that grew by more than their updates; call once a step.

        A Reading's parameter norms are those before its step.

        Args:
            reading: of the step just made.
            kind: how the optimizer's update depends on the gradient; like ``momentum`` it counts only
                where the Reading has parameter norms.
            momentum: heavy-ball momentum; of several groups the largest.
        """
        found: NDArray[np.intp] = np.zeros(0, np.intp)
        now = reading.param_norms
        if now is not None and len(now) == len(self._roots):
            path = self._path()
            if self._before is not None:
                found = self._compare(self._before, now, path, kind, momentum)
            self._before, self._earlier = now, path
            self._start_again()
        self.add(reading)
        return found

    def add(self, reading: Reading) -> None:
        """Take in a step before which the weights weren't measured: all that `suspects` does with it."""
        if reading.skipped or len(reading.norms) != len(self._roots):
            return
        rate = reading.lr * reading.lr_factor
        self._rates += rate
        if math.isfinite(reading.total_norm):
            self._moved.append((rate * reading.clip_coef, reading.norms))
            if len(self._moved) >= _FOLD:
                self._gradients, self._moved = self._path(), []

    def _path(self) -> NDArray[np.float64]:
        """``Σ lr * ||g||`` of each tensor; summed up here and not at every step, where it costs most."""
        if not self._moved:
            return self._gradients
        rates, norms = zip(*self._moved, strict=True)
        with np.errstate(over="ignore", invalid="ignore"):
            path: NDArray[np.float64] = np.asarray(rates) @ np.stack(norms).astype(np.float64)
            return self._gradients + path

    def _compare(
        self, before: FloatArray, now: FloatArray, path: NDArray[np.float64], kind: Kind, momentum: float
    ) -> NDArray[np.intp]:
        with np.errstate(invalid="ignore", over="ignore"):
            usual = before.astype(np.float64)
            growth = now - usual
            if kind == "sgd":
                allowed = SGD_SLACK * (path + self._earlier) / max(1.0 - momentum, 1e-3)
            elif kind == "adaptive":
                allowed = ADAPTIVE_SLACK * self._rates * self._roots
            else:
                allowed = UNKNOWN_GROWTH * (usual + self._roots)
            return np.flatnonzero(growth > allowed + LEAST_GROWTH * usual)
