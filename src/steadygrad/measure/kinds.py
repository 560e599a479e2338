"""What kind of tensor one is: sharded, sparse, of a subclass, half as wide as its norm, or wider than most."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
LONG = (torch.float64, torch.complex128)
"""Squares of these leave a float64's range long before they do; those of all others never."""

NARROW = frozenset(
    getattr(torch, name)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
    if hasattr(torch, name)
)
"""Of these torch takes no norm."""


def is_sharded(tensor: Tensor) -> bool:
    """Whether the tensor is a DTensor, asked without importing ``torch.distributed``."""
    return hasattr(tensor, "full_tensor")


def dense_values(tensor: Tensor) -> Tensor:
    """The tensor itself, or the summed values of a sparse one (repeated indices add up); widened where torch takes no norm."""
    if tensor.layout == torch.strided:
        return tensor.to(torch.float32) if tensor.dtype in NARROW else tensor
    return tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.values()


def is_plain(tensor: Tensor) -> bool:
    """Whether the fused norm takes it as it is: dense, of no subclass, and not too narrow."""
    is_dense = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
    return is_dense and tensor.dtype not in NARROW
