"""Small measurements and readings, and a policy's factors over a stream of norms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from steadygrad.measure import GroupHyper, Measurement
from steadygrad.policies import Policy
from steadygrad.records import Reading, TensorInfo

patient = settings(deadline=None, max_examples=60)
"""No time limit for one example: a shared machine stumbles now and then."""


def measurement(
    grads: Sequence[Tensor | None],
    weights: Sequence[Tensor] | None = None,
    names: Sequence[str] | None = None,
    grad_scale: float | None = None,
) -> Measurement:
    """What a step with these (already scaled) gradients looks like; None for an absent gradient."""
    if weights is None:
        weights = [torch.ones(2) if g is None else torch.ones_like(g.to_dense()) for g in grads]
    names = names or [f"layer{i}.weight" for i in range(len(grads))]
    absent = np.array([g is None for g in grads])
    wide = [_norm(g) / (grad_scale or 1.0) for g in grads]
    is_wide = math.hypot(*wide) > 3e38 or any(g is not None and g.dtype == torch.float64 for g in grads)
    norms = torch.tensor(wide, dtype=torch.float64 if is_wide else torch.float32)
    return Measurement(
        norms=norms,
        total_norm=torch.tensor(math.hypot(*wide), dtype=norms.dtype),
        grads=[g for g in grads if g is not None],
        present=torch.from_numpy(np.flatnonzero(~absent)) if absent.any() else None,
        params=list(weights),
        tensors=[TensorInfo(name, tuple(w.shape)) for name, w in zip(names, weights, strict=True)],
        param_norms=None,
        groups=[GroupHyper(lr=0.1)],
        group_of=[0] * len(grads),
        grad_scale=None if grad_scale is None else torch.tensor(grad_scale),
        absent=absent if absent.any() else None,
    )


def reading(norms: Sequence[float], clip_coef: float = 1.0) -> Reading:
    """What the host sees of a step with these norms."""
    return Reading(0, np.array(norms, dtype=np.float64), math.hypot(*norms), clip_coef=clip_coef)


def factors(policy: Policy, stream: Iterable[float]) -> list[float]:
    """Factor of every finite step; the policy also learns the others, as a careless caller would."""
    out = []
    for norm in stream:
        factor = 1.0
        if math.isfinite(norm):
            scaled = policy.scale(measurement([torch.tensor([norm], dtype=torch.float64)]))
            factor = 1.0 if scaled is None else float(scaled.min())
            out.append(factor)
        policy.learn(reading([norm], factor))
    return out


def norms_of_any_size() -> st.SearchStrategy[float]:
    """Norms over the range of float32, zero included."""
    return st.one_of(st.just(0.0), st.floats(1e-30, 1e30).map(_as_float32))


def similar_norms() -> st.SearchStrategy[float]:
    """Norms as healthy training has them, a spike or a zero among them."""
    return st.one_of(
        st.floats(0.5, 2.0).map(_as_float32), st.sampled_from([0.0, 1e-3, 1e3, 1e20]).map(_as_float32)
    )


def poison() -> st.SearchStrategy[float]:
    """What must never enter a statistic."""
    return st.sampled_from([math.nan, math.inf])


def _norm(grad: Tensor | None) -> float:
    if grad is None:
        return 0.0
    wide = grad.detach().to_dense().to(torch.complex128 if grad.is_complex() else torch.float64)
    return float(torch.linalg.vector_norm(wide))


def _as_float32(value: float) -> float:
    return float(np.float32(value))
