"""The rules of the policies once more: slow, in plain floats, one step and one element at a time.

Each is the paper's formula with the repair marked by the word REPAIR.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def clip_norm_factor(norm: float, max_norm: float) -> float:
    return max_norm / norm if norm > max_norm else 1.0


def autoclip_factors(norms: Sequence[float], percentile: float, window: int) -> list[float]:
    history: list[float] = []
    out = []
    for norm in norms:
        if not math.isfinite(norm):  # REPAIR: a NaN never enters the history
            continue
        cap = math.inf
        if history:
            recent = np.log(history[-window:])  # REPAIR: a window instead of the whole run
            cap = math.exp(np.percentile(recent, percentile))
        out.append(clip_norm_factor(norm, cap))
        if norm > 0.0:  # REPAIR: a step without gradient says nothing about its size
            history.append(norm)
    return out


def zclip_factors(norms: Sequence[float], z_threshold: float, alpha: float) -> list[float]:
    window = round((1 + alpha) / (1 - alpha))
    history: list[float] = []
    out = []
    for norm in norms:
        if not math.isfinite(norm):  # REPAIR: a NaN never enters the history
            continue
        factor = 1.0
        recent = history[-window:]
        if len(recent) >= 5 and norm > 0.0:  # REPAIR: 5 norms of warm-up, not 25
            # REPAIR: median and MAD of raw log norms, not mean and variance of clipped norms
            mu = statistics.median(recent)
            sigma = max(1.4826 * statistics.median(abs(u - mu) for u in recent), 0.1)
            z = (math.log(norm) - mu) / sigma
            if z > z_threshold:
                factor = math.exp(mu + sigma * z_threshold * (z_threshold / z)) / norm
        out.append(factor)
        if norm > 0.0:
            history.append(math.log(norm))
    return out


class AdaGCReference:
    """One gamma a tensor, in a dictionary."""

    def __init__(self, relative: float, beta: float, warmup_steps: int, max_norm: float) -> None:
        self.relative, self.beta, self.max_norm = relative, beta, max_norm
        self.warmup_left = warmup_steps
        self.gamma: dict[int, float] = {}
        self.streaks: dict[int, list[float]] = {}

    def step(self, norms: Sequence[float]) -> list[float]:
        if self.warmup_left > 0:
            self.warmup_left -= 1
            for i, norm in enumerate(norms):
                if norm > 0.0:  # REPAIR: zero would hold the tensor at zero for ever
                    self.gamma[i] = min(self.gamma.get(i, math.inf), norm)
            return [clip_norm_factor(math.hypot(*norms), self.max_norm)] * len(norms)
        # REPAIR: no gamma below a thousandth of the median one
        floor = 1e-3 * statistics.median(self.gamma.values()) if self.gamma else 0.0
        return [self._one(i, norm, floor) for i, norm in enumerate(norms)]

    def _one(self, i: int, norm: float, floor: float) -> float:
        if norm == 0.0:
            return 1.0
        if i not in self.gamma:
            self.gamma[i] = norm
            return 1.0
        limit = self.relative * max(self.gamma[i], floor)
        factor = min(1.0, limit / norm)
        self.gamma[i] = self.beta * self.gamma[i] + (1.0 - self.beta) * min(norm, limit)
        # REPAIR: what is scaled 16 times in a row has a new level
        streak = [*self.streaks.get(i, []), norm] if norm > limit else []
        if len(streak) == 16:
            self.gamma[i] = max(self.gamma[i], min(streak))
            streak = []
        self.streaks[i] = streak
        return factor


def clip_value_elementwise(grad: Tensor, limit: float) -> Tensor:
    """A dense copy whose elements are at most ``limit`` in modulus."""
    dense = grad.to_dense().clone()
    flat = dense.view(-1)
    for i, element in enumerate(flat.tolist()):
        if abs(element) > limit:
            flat[i] = element * (limit / abs(element))
    return dense


def agc_rows(weight: Tensor, grad: Tensor, clipping: float, eps: float) -> tuple[Tensor, float]:
    """A copy of the gradient with its rows scaled, and the smallest factor."""
    out, smallest = grad.clone(), 1.0
    units = range(len(grad)) if grad.ndim > 1 else [...]
    for unit in units:
        weight_norm = math.hypot(*(abs(x) for x in weight[unit].flatten().tolist()))
        grad_norm = math.hypot(*(abs(x) for x in grad[unit].flatten().tolist()))
        max_norm = clipping * max(weight_norm, eps)  # REPAIR: eps is the norm of a fresh unit
        if grad_norm > max_norm:
            out[unit] = grad[unit] * (max_norm / grad_norm)
            smallest = min(smallest, max_norm / grad_norm)
    return out, smallest


def bits(tensor: Tensor) -> bytes:
    """Exact content, so that NaN equals NaN and -0.0 differs from 0.0."""
    return tensor.detach().to_dense().contiguous().view(torch.uint8).numpy().tobytes()
