"""Norms of long tensors in host memory, piece by piece.

A float32 sum of many elements loses digits: a hundred million of 0.01 have the norm 100.40, not 100, and in bfloat16
105. So each piece is summed in float32, and the sums in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from steadygrad.measure.kinds import LONG

# The fused call takes tensor after tensor on the calling thread alone. A dot product is shared among threads: a
# third faster on long tensors and two free processors, but beside another program each product waits until its last
# thread has had its turn (26 tensors of a transformer: 0.4 ms, and 100 times that). So only what is longer than this.
PIECE_NUMEL = 262_144


def is_long(tensor: Tensor) -> bool:
    """Whether a sum over all of it is to be taken in pieces; float64 has digits enough."""
    return tensor.numel() > PIECE_NUMEL and tensor.dtype not in LONG


def side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """All their numbers in one row, copied; torch's own flattening saves a Python call a tensor."""
    flat: Tensor = torch._C._nn.flatten_dense_tensors(list(tensors))  # noqa: SLF001 - as DistributedDataParallel does
    return flat


def flat_square(tensor: Tensor) -> float:
    """Squared norm of float32 numbers that lie in memory as one row."""
    return math.fsum(torch.dot(piece, piece).item() for piece in torch.split(tensor.view(-1), PIECE_NUMEL))


def square(tensor: Tensor, factor: float = 1.0) -> float:
    """Squared norm of a dense tensor of any strides, no wider than float32; no more than a piece of it is copied.

    Args:
        tensor: of half precision, float32 or complex64.
        factor: multiplies every element before, for squares that would leave float32.

    Raises:
        TypeError: it is float64.
    """
    if tensor.dtype in LONG:
        raise TypeError("its digits wouldn't survive")
    return math.fsum(_square(piece, factor) for piece in pieces(tensor))


def _square(piece: Tensor, factor: float) -> float:
    # A dot product over strides would sum one by one, and lose the digits after all.
    flat = piece.to(torch.float32).contiguous().view(-1)
    flat = flat if factor == 1.0 else flat * factor
    return torch.dot(flat, flat).item()


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Views that together are the tensor, of at most `PIECE_NUMEL` real numbers each; in any order."""
    if tensor.is_complex():
        # Of the conjugate only a copy could be seen as real numbers; both have the same norm.
        tensor = torch.view_as_real(tensor.conj() if tensor.is_conj() else tensor)
    ordered = tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))
    yield from torch.split(ordered.view(-1), PIECE_NUMEL) if ordered.is_contiguous() else _halves(ordered)


def _halves(tensor: Tensor) -> Iterator[Tensor]:
    if tensor.numel() <= PIECE_NUMEL:
        yield tensor
        return
    sizes = list(tensor.shape)
    longest = max(sizes)
    for half in torch.split(tensor, (longest + 1) // 2, sizes.index(longest)):
        yield from _halves(half)
