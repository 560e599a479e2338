"""Clipping rules as their papers and reference code have them, faults included, written from the formulas.

Each is called with the parameters between backward and step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

Rule = Callable[[Sequence[nn.Parameter]], None]


def constant(max_norm: float) -> Rule:
    """``clip_grad_norm_`` as everybody calls it."""

    def rule(params: Sequence[nn.Parameter]) -> None:
        torch.nn.utils.clip_grad_norm_(params, max_norm)

    return rule


def autoclip(percentile: float = 10.0) -> Rule:
    """AutoClip (Seetharaman et al. 2020, arXiv:2007.14469): clip to a percentile of all norms so far."""
    history: list[float] = []

    def rule(params: Sequence[nn.Parameter]) -> None:
        history.append(_total(params))
        torch.nn.utils.clip_grad_norm_(params, float(np.percentile(history, percentile)))

    return rule


def zclip(alpha: float = 0.97, threshold: float = 2.5, warmup: int = 25) -> Rule:
    """ZClip (Kumar et al. 2025, arXiv:2504.02507, algorithm 1): clip what stands out from a running mean."""
    early: list[float] = []
    mean, variance = math.nan, math.nan

    def rule(params: Sequence[nn.Parameter]) -> None:
        nonlocal mean, variance
        norm = _total(params)
        if len(early) < warmup:
            early.append(norm)
            if len(early) == warmup:
                mean, variance = float(np.mean(early)), float(np.var(early))
            return
        deviation = math.sqrt(variance)
        z = (norm - mean) / (deviation + 1e-6)
        if z > threshold:
            norm = mean + threshold * deviation * threshold / z
            torch.nn.utils.clip_grad_norm_(params, norm)
        mean = alpha * mean + (1 - alpha) * norm
        variance = alpha * variance + (1 - alpha) * (norm - mean) ** 2

    return rule


def agc(clipping: float = 0.01, eps: float = 1e-3) -> Rule:
    """Adaptive gradient clipping (Brock et al. 2021, arXiv:2102.06171, section 4.1), by unit."""

    def rule(params: Sequence[nn.Parameter]) -> None:
        for param in params:
            if param.grad is not None:
                most = _by_unit(param.detach()).clamp_min(eps) * clipping
                norms = _by_unit(param.grad)
                clipped = param.grad * (most / norms.clamp_min(1e-6))
                param.grad.copy_(torch.where(norms < most, param.grad, clipped))

    return rule


def adagc(relative: float = 1.05, decay: float = 0.98, absolute: float = 1.0, warmup: int = 100) -> Rule:
    """AdaGC (Wang et al. 2025, arXiv:2502.11034, algorithm 1): each tensor by its own running norm."""
    known: dict[int, float] = {}
    steps = 0

    def rule(params: Sequence[nn.Parameter]) -> None:
        nonlocal steps
        steps += 1
        live = [(i, param) for i, param in enumerate(params) if param.grad is not None]
        if steps <= warmup:
            torch.nn.utils.clip_grad_norm_(params, absolute)
        for i, param in live:
            assert param.grad is not None
            norm = float(param.grad.norm())
            if steps <= warmup:
                known[i] = min(known.get(i, math.inf), norm)
                continue
            factor = min(1.0, relative * known.get(i, norm) / norm) if norm else 1.0
            param.grad.mul_(factor)
            known[i] = decay * known.get(i, norm) + (1 - decay) * factor * norm

    return rule


def _total(params: Sequence[nn.Parameter]) -> float:
    return float(torch.nn.utils.get_total_norm([p.grad for p in params if p.grad is not None]))


def _by_unit(tensor: Tensor) -> Tensor:
    if tensor.dim() <= 1:
        return tensor.norm()
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.dim())), keepdim=True)


def half_decades() -> list[float]:
    """0.001 to 1000, the grid from which the best constant is chosen."""
    return [10 ** (k / 2) for k in range(-6, 7)]
