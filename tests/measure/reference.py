"""The norms once more: slow, one tensor and one element group at a time, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def slow_norm(tensor: Tensor) -> float:
    """L2 norm of one tensor of any kind, scaled by its largest element so that nothing overflows."""
    values = tensor.detach()
    values = values.to_dense() if values.layout != torch.strided else values
    wide = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
    elements = wide.to(torch.float64).reshape(-1).tolist()
    if any(math.isnan(element) for element in elements):
        return math.nan
    return math.hypot(*elements)


def slow_norms(tensors: Sequence[Tensor]) -> list[float]:
    return [slow_norm(tensor) for tensor in tensors]


def slow_total(tensors: Sequence[Tensor]) -> float:
    norms = slow_norms(tensors)
    return math.nan if any(math.isnan(norm) for norm in norms) else math.hypot(*norms)
