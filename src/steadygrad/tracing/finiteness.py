"""Is there a NaN or an Inf in it, and where."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from steadygrad.origin import InputFacts

MOST_INPUTS = 6


def has_numbers(value: object) -> bool:
    """Whether this is a tensor that could hold a NaN: floating or complex, dense, with elements."""
    if not isinstance(value, Tensor) or value.is_meta or value.layout != torch.strided:
        return False
    return (value.is_floating_point() or value.is_complex()) and value.numel() > 0


def is_finite(tensor: Tensor) -> bool:
    """Whether every element is; dtypes that torch can't ask about count as finite."""
    try:
        return bool(torch.isfinite(tensor).all())
    except (RuntimeError, NotImplementedError):
        return True


def has_nan(tensor: Tensor) -> bool:
    """Whether an element is NaN."""
    return bool(torch.isnan(tensor).any())


def only_minus_infinity(tensor: Tensor) -> bool:
    """Whether every non-finite element is -Inf, as in an attention mask."""
    if tensor.is_complex():
        return False
    return bool((torch.isfinite(tensor) | torch.isneginf(tensor)).all())


def facts(tensors: Iterable[Tensor]) -> tuple[InputFacts, ...]:
    """Shape, dtype and range of each."""
    return tuple(_facts(tensor) for tensor in list(tensors)[:MOST_INPUTS])


def _facts(tensor: Tensor) -> InputFacts:
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if not has_numbers(tensor):
        return InputFacts(shape, dtype, math.nan, math.nan)
    values = tensor.detach().abs() if tensor.is_complex() else tensor.detach()
    finite = values[torch.isfinite(values)].to(torch.float64)
    bounds = (float(finite.min()), float(finite.max())) if finite.numel() else (math.nan, math.nan)
    return InputFacts(shape, dtype, *bounds, values.numel() - finite.numel())


def broken_rows(tensor: Tensor, batch_size: int | None) -> tuple[int, ...]:
    """Rows of the batch that are non-finite in a tensor.

    The first dimension tells where it is the batch's, or a whole multiple of it (a batch of sequences
    laid end to end); else nothing can be said.
    """
    length = tensor.shape[0] if tensor.dim() else 0
    if not batch_size or batch_size < 2 or length == 0 or length % batch_size:
        return ()
    bad = ~torch.isfinite(tensor.detach()).reshape(batch_size, -1).all(dim=1)
    return tuple(torch.nonzero(bad).flatten().tolist())
