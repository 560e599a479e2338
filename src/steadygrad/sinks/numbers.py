"""Few numbers that say how a step's gradients are: a logger should not get one curve a tensor unasked.

Shape legend: P gradient tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steadygrad.records import BoolArray, FloatArray, Reading, TensorInfo

QUANTILES = (0.1, 0.5, 0.9)
"""Over the tensors of a step: most of them, without the few that are worst and have curves of their own."""

_STICKY = 16
"""Tensors that get a curve of their own because they were once among the worst."""


class StepNumbers:
    """Turns Readings into named numbers.

    Args:
        worst: how many tensors get a curve of their own at each step, non-finite ones first, then
            the largest; once in, a tensor stays, up to 16 in all. None is every tensor.
    """

    def __init__(self, worst: int | None = 3) -> None:
        self._worst = worst
        self._shown: dict[tuple[int, int], None] = {}

    def of(self, reading: Reading, tensors: Sequence[TensorInfo]) -> dict[str, float]:
        """The numbers of one step.

        Args:
            reading: the step.
            tensors: what its norms belong to.

        Returns:
            Total norm, cap, factor, rate, quantiles over tensors that have a gradient, and the norms of
            single tensors under ``grad_norm/NAME``. NaN and Inf as they are.
        """
        norms = np.asarray(reading.norms, np.float64)
        present = np.ones(len(norms), np.bool_) if reading.absent is None else ~reading.absent
        numbers = {
            "total_norm": reading.total_norm,
            "clip_coef": reading.clip_coef,
            "skipped": float(reading.skipped),
            "lr": reading.lr * reading.lr_factor,
        }
        if reading.cap is not None:
            numbers["cap"] = reading.cap
        if present.any():
            numbers |= _spread(norms[present])
        for index in self._chosen(reading.optimizer, norms, present):
            if index < len(tensors):
                numbers[f"grad_norm/{tensors[index].name}"] = float(norms[index])
        prefix = f"optimizer{reading.optimizer}/" if reading.optimizer else ""
        return {prefix + name: float(value) for name, value in numbers.items()}

    def _chosen(self, optimizer: int, norms: FloatArray, present: BoolArray) -> list[int]:
        if self._worst is None:
            return [int(index) for index in np.flatnonzero(present)]
        badness = np.where(np.isfinite(norms), norms, np.inf)
        order = np.argsort(-badness, kind="stable")
        for index in [int(i) for i in order if present[i]][: self._worst]:
            if len(self._shown) < _STICKY:
                self._shown[optimizer, index] = None
        return [index for owner, index in self._shown if owner == optimizer and present[index]]


def _spread(norms: FloatArray) -> dict[str, float]:
    finite = norms[np.isfinite(norms)]
    values = np.quantile(finite, QUANTILES) if finite.size else np.full(len(QUANTILES), np.nan)
    spread = {f"norms/q{round(100 * q)}": float(v) for q, v in zip(QUANTILES, values, strict=True)}
    # A maximum that hides a NaN would say that all is well.
    return {**spread, "norms/max": float(norms.max()), "norms/nonfinite": float(len(norms) - finite.size)}
