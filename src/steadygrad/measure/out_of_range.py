"""Norms whose squares leave the range they are summed in, measured again in a way that can't."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.measure.device_norms import sharded_norms
from steadygrad.measure.kinds import LONG, dense_values, is_plain, is_sharded
from steadygrad.measure.pieces import is_long, side_by_side, square
from steadygrad.records import FloatArray

# Below this norm the squares of a hundred million elements begin to fall under float32's range.
LEAST_SURE = 1e-15
MOST_FLOAT32 = float(np.finfo(np.float32).max)
# Tensors of zeros that are no longer than this are looked at together.
_SMALL_NUMEL = 1024


def widened(norms: FloatArray, tensors: Sequence[Tensor]) -> FloatArray:
    """Measure again the tensors whose squares left float32's range at either end.

    Too large for the sum, or truly not finite? Too small, or truly 0? ``m = max|g|`` tells, and
    ``norm = m * ||g / m||`` can't overflow unless the norm itself does.
    """
    wide = norms.astype(np.float64)
    unsure = np.flatnonzero(~(norms > LEAST_SURE) | np.isinf(norms)).tolist()
    tiny = [i for i in unsure if norms[i] > 0.0 and _is_tiny(norms[i], tensors[i])]
    if tiny:
        wide[tiny] = _scaled_norms(wide[tiny].tolist(), [tensors[i] for i in tiny])
        unsure = sorted(set(unsure).difference(tiny))
    for i in _not_just_zeros(unsure, norms, tensors):
        if is_sharded(tensors[i]):
            wide[i] = float(sharded_norms([tensors[i]])[0])
            continue
        values = dense_values(tensors[i].detach())
        if values.is_complex():  # the conjugate has the same norm, and needs no copy
            values = torch.view_as_real(values.conj() if values.is_conj() else values)
        largest = _largest(values) if values.numel() else 0.0
        wide[i] = largest
        if 0.0 < largest < math.inf:
            wide[i] = _norm_in_range(values, largest)
    return narrowed(wide, norms.dtype)


def _is_tiny(norm: float, tensor: Tensor) -> bool:
    """Whether its squares are too small, and two fused calls take it beside others of its kind."""
    return (
        norm <= LEAST_SURE
        and (tensor.device.type, tensor.dtype) == ("cpu", torch.float32)
        and is_plain(tensor)
        and not is_long(tensor)
    )


def _scaled_norms(norms: Sequence[float], tensors: Sequence[Tensor]) -> list[float]:
    """Norms of tensors whose squares are too small, measured at about 1. A detector has a score of them at each step.

    Args:
        norms: what came out, which may be far too small, but isn't 0.
        tensors: the tensors.
    """
    # By powers of two no digit is lost.
    shifts = [min(126, -math.frexp(norm)[1]) for norm in norms]
    scaled = torch._foreach_mul(list(tensors), [2.0**shift for shift in shifts])
    found = torch._foreach_norm(scaled, 2)
    return [math.ldexp(one.item(), -shift) for one, shift in zip(found, shifts, strict=True)]


def _not_just_zeros(positions: list[int], norms: FloatArray, tensors: Sequence[Tensor]) -> list[int]:
    """Without the small tensors of zeros, which are looked at together: a detector has a score of them at each step."""
    small = [
        i
        for i in positions
        if norms[i] == 0.0
        and tensors[i].numel() <= _SMALL_NUMEL
        and (tensors[i].device.type, tensors[i].dtype) == ("cpu", torch.float32)
        and is_plain(tensors[i])
    ]
    if len(small) < 2 or side_by_side([tensors[i] for i in small]).any():
        return positions
    return sorted(set(positions).difference(small))


def _norm_in_range(values: Tensor, largest: float) -> float:
    """Norm of values whose squares leave float32's range, but not by much more once they are divided by the largest."""
    if values.dtype in LONG:
        return largest * float(torch.linalg.vector_norm(values / largest))
    # By a power of two no digit is lost, and none of its products leaves float32.
    shift = max(-126, min(126, -math.frexp(largest)[1]))
    return math.ldexp(math.sqrt(square(values, 2.0**shift)), -shift)


def _largest(values: Tensor) -> float:
    """Largest absolute value, NaN where there is one; twenty times as fast as the norm of order infinity."""
    low, high = map(float, torch.aminmax(values))
    # abs: of zeros it would be -0, and a bound divided by that is -Inf.
    return math.nan if math.isnan(low) else abs(max(-low, high))


def narrowed(wide: NDArray[np.float64], dtype: np.dtype[Any]) -> FloatArray:
    """As narrow as ``dtype``, where every finite norm fits it; else as wide as they are."""
    with np.errstate(over="ignore"):
        narrow: FloatArray = wide.astype(dtype)
    return narrow if np.isfinite(narrow).all() or (np.isinf(narrow) == np.isinf(wide)).all() else wide


def host_total(norms: FloatArray) -> float:
    """Norm of all tensors together; scaled by the largest, so it overflows only if it must."""
    total = math.sqrt(np.vdot(norms, norms))  # unlike dot, it doesn't warn where it overflows
    if LEAST_SURE < total < math.inf:
        return total
    largest = float(norms.max(initial=0.0))
    if not np.isfinite(largest) or largest == 0.0:
        return largest
    ratio = norms.astype(np.float64) / largest
    return largest * math.sqrt(np.vdot(ratio, ratio))
