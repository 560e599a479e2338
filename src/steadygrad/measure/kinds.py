"""What kind of tensor one is: sharded, sparse, of a subclass, half as wide as its norm, or wider than most."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
LONG = (torch.float64, torch.complex128)
"""Squares of these leave a float64's range long before they do; those of all others never."""


def is_sharded(tensor: Tensor) -> bool:
    """Whether the tensor is a DTensor, asked without importing ``torch.distributed``."""
    return hasattr(tensor, "full_tensor")


def dense_values(tensor: Tensor) -> Tensor:
    """The tensor itself, or the summed values of a sparse one (repeated indices add up)."""
    if tensor.layout == torch.strided:
        return tensor
    return tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.values()


def is_plain(tensor: Tensor) -> bool:
    """Whether the fused norm takes it as it is: dense and of no subclass."""
    return type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
