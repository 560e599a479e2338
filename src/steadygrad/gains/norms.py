"""Norms that don't overflow before the numbers themselves do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def norm_of(values: Tensor, dim: int | None = None, sizes: Sequence[int] | None = None) -> list[float]:
    """L2 norm of a tensor, or of each of its slices.

    Args:
        values: any floating tensor.
        dim: one norm for each position along it.
        sizes: one norm for each group of rows, these many.

    Returns:
        The norms; a single one where neither is given.

    Example:
        >>> norm_of(torch.tensor([[3.0, 4.0], [6.0, 8.0]]), dim=0)
        [5.0, 10.0]
    """
    wide = _wide(values.detach())
    if sizes is not None:
        parts: Sequence[Tensor] = torch.split(wide, list(sizes))
        return [float(torch.linalg.vector_norm(part)) for part in parts]
    if dim is None:
        return [float(torch.linalg.vector_norm(wide))]
    norms: list[float] = torch.linalg.vector_norm(wide.movedim(dim, 0).flatten(1), dim=1).tolist()
    return norms


def scale_of(values: Tensor) -> float:
    """Root mean square; 0 for an empty tensor."""
    return norm_of(values)[0] / math.sqrt(values.numel()) if values.numel() else 0.0


def _wide(values: Tensor) -> Tensor:
    values = values.abs() if values.is_complex() else values
    # Apple's accelerator has no float64.
    return values.float() if values.device.type == "mps" else values.double()
