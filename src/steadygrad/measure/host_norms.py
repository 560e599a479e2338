"""Norms of tensors in host memory, where reading a number costs nothing.

Float32 sums in one fused call, many tiny tensors taken together, long ones in pieces, and only the rare tensor whose
float32 sum overflowed measured again.

Shape legend: p tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.measure.device_norms import sharded_norms
from steadygrad.measure.kinds import HALF, dense_values, is_plain, is_sharded
from steadygrad.measure.out_of_range import LEAST_SURE, MOST_FLOAT32, host_total, widened
from steadygrad.measure.pieces import flat_square, is_long, side_by_side, square
from steadygrad.records import FloatArray

# Up to this many elements the call costs more than the arithmetic. Where there are many such tensors, those of
# one shape are copied side by side and measured as the rows of a matrix (300 of 64 elements: 415 us one by one,
# 45 us so; 100 of 4,096: 200 and 155), others are copied and summed piece by piece. Where there are few, each
# kind of call met for the first time in a step costs more than that saves, so all take one and the same.
ALIKE_NUMEL = 4096
TINY_NUMEL = 1024
MANY = 64
# A larger copy no longer stays in the caches, and its memory is fetched anew from the system at every step (5,000 of
# 4,096: 46 ms in one copy, 7 in copies of this size).
COPIED_NUMEL = 1_048_576


class HostNorms:
    """Norms of tensors in host memory, with a plan that is made once and kept.

    The plan sorts the tensors by how they are measured. It stays valid while the same parameters
    have gradients; a gradient that changes its kind (dense to sparse) makes the fast call raise,
    and then the plan is made anew.

    Args:
        tensors: the first list to measure; later ones must have the same length and sizes.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._plan(tensors)

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[FloatArray, float]:
        """Norms ``[p]``, and the norm of all together.

        The norms are float32, or float64 where a finite one doesn't fit float32.
        """
        try:
            return self._measured(tensors)
        except (RuntimeError, NotImplementedError, TypeError):
            self._plan(tensors)
            return self._measured(tensors)

    def _measured(self, tensors: Sequence[Tensor]) -> tuple[FloatArray, float]:
        if self._are_few:
            each, dtype = self._each(tensors)
            total = math.hypot(*each)
            # Smallest and total tell whether all were in range: no array of flags on a healthy step.
            if min(each) > LEAST_SURE and total < (MOST_FLOAT32 if dtype is np.float32 else math.inf):
                return np.array(each, dtype), total
            with np.errstate(over="ignore"):  # what overflows here is measured again
                norms: FloatArray = np.array(each, dtype)
        else:
            wide = np.sqrt(self._squares(tensors))
            total = math.sqrt(np.vdot(wide, wide))
            if wide.min(initial=np.inf) > LEAST_SURE and total < MOST_FLOAT32:
                return wide.astype(np.float32), total
            with np.errstate(over="ignore"):  # as above
                norms = wide.astype(np.float32)
        norms = widened(norms, tensors)
        return norms, host_total(norms)

    def _plan(self, tensors: Sequence[Tensor]) -> None:
        groups = _by_shape(tensors)
        alike = [members for members in groups if len(members) >= MANY]
        self._alike = [_Pick(part) for members in alike for part in _parts(members, tensors)]
        taken = {i for pick in self._alike for i in pick.members}
        tiny = [
            i for members in groups for i in members if i not in taken and tensors[i].numel() <= TINY_NUMEL
        ]
        self._tiny = _Pick(sorted(tiny) if len(tiny) >= MANY else [])
        sizes = [tensors[i].numel() for i in self._tiny.members]
        self._offsets = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
        self._tiny_numel = sum(sizes)
        taken.update(self._tiny.members)
        fused: dict[torch.dtype, list[int]] = {}
        dots: list[int] = []
        cut: list[int] = []
        self._odd: list[int] = []
        for i, tensor in enumerate(tensors):
            if i in taken:
                continue
            if not is_plain(tensor):
                self._odd.append(i)
            elif is_long(tensor):
                (dots if _is_flat(tensor) else cut).append(i)
            else:
                fused.setdefault(tensor.dtype, []).append(i)
        self._dots = _Pick(dots)
        self._cut = _Pick(cut)
        self._fused = [_Pick(members) for members in fused.values()]
        self._are_few = not taken and len(tensors) > 0
        self._is_one_call = self._are_few and len(fused) == 1 and not (dots or cut or self._odd)
        engines = [*self._alike, self._tiny, self._dots, self._cut, *self._fused]
        order = [i for engine in engines for i in engine.members] + self._odd
        self._order = np.argsort(order)

    def _each(self, tensors: Sequence[Tensor]) -> tuple[list[float], type[np.float32 | np.float64]]:
        """Norms of tensors that none are copied of, and how wide they are to be kept."""
        if self._is_one_call:
            found = _fused_host_norms(tensors)
            dtype = np.float64 if found[0].dtype == torch.float64 else np.float32
            # One by one, because stacking them takes twice as long.
            return [norm.item() for norm in found], dtype
        norms = [math.sqrt(square) for square in self._dot_squares(self._dots(tensors))]
        norms += self._others(tensors)
        return [norms[i] for i in self._order.tolist()], np.float32

    def _others(self, tensors: Sequence[Tensor]) -> list[float]:
        norms = [math.sqrt(square(tensor)) for tensor in self._cut(tensors)]
        norms += [norm.item() for pick in self._fused for norm in _fused_host_norms(pick(tensors))]
        return norms + [_norm_of_any(tensors[i]) for i in self._odd]

    def _dot_squares(self, tensors: Sequence[Tensor]) -> list[float]:
        if tensors and tensors[0].dtype != torch.float32:
            raise TypeError("the plan is of other tensors")
        return [flat_square(tensor) for tensor in tensors]

    def _squares(self, tensors: Sequence[Tensor]) -> NDArray[np.float64]:
        parts: list[Any] = [_row_squares(pick(tensors)) for pick in self._alike]
        if self._tiny.members:
            parts.append(self._piece_squares(self._tiny(tensors)))
        parts.append(self._dot_squares(self._dots(tensors)))
        parts.append([norm * norm for norm in self._others(tensors)])
        squares: NDArray[np.float64] = np.concatenate(parts, dtype=np.float64)[self._order]
        return squares

    def _piece_squares(self, tensors: Sequence[Tensor]) -> NDArray[np.float64]:
        flat = side_by_side(tensors)
        if flat.numel() != self._tiny_numel or flat.dtype != torch.float32:
            raise TypeError("the plan is of other tensors")
        # torch's product overflows without a warning, and the copy is ours.
        numbers: FloatArray = torch.mul(flat, flat, out=flat).numpy()
        squares: NDArray[np.float64] = np.add.reduceat(numbers, self._offsets, dtype=np.float64)
        return squares


class _Pick:
    """Takes its members out of a list, all at once."""

    def __init__(self, members: list[int]) -> None:
        self.members = members
        self._take: Callable[[Any], Any] = itemgetter(*members) if len(members) > 1 else self._few

    def __call__(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        taken: Sequence[Tensor] = self._take(tensors)
        return taken

    def _few(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        return [tensors[i] for i in self.members]


def _by_shape(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Positions of the small tensors, those of one shape together."""
    shapes: dict[torch.Size, list[int]] = {}
    for i, tensor in enumerate(tensors):
        if is_plain(tensor) and _is_flat(tensor) and tensor.dim() and tensor.numel() <= ALIKE_NUMEL:
            shapes.setdefault(tensor.shape, []).append(i)
    return list(shapes.values())


def _parts(members: list[int], tensors: Sequence[Tensor]) -> list[list[int]]:
    """The members, as many together as are copied at once."""
    count = max(1, COPIED_NUMEL // tensors[members[0]].numel())
    return [members[i : i + count] for i in range(0, len(members), count)]


def _is_flat(tensor: Tensor) -> bool:
    """Whether the tensor is float32 and lies in memory as one row, so that nothing has to be copied to see it so."""
    return tensor.dtype == torch.float32 and tensor.numel() > 0 and tensor.is_contiguous()


def _row_squares(tensors: Sequence[Tensor]) -> FloatArray:
    # A gradient that is laid out otherwise by now makes the view raise, and so a new plan.
    rows = torch.cat(tensors).view(len(tensors), -1)  # type: ignore[arg-type] # any sequence will do
    if rows.dtype != torch.float32 or rows.shape[1] != tensors[0].numel():
        raise TypeError("the plan is of other tensors")
    numbers = rows.numpy()
    # Not torch's norm over the rows: waking its second thread costs more than this whole sum.
    squares: FloatArray = np.einsum("ij,ij->i", numbers, numbers)
    return squares


def _fused_host_norms(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    dtype = torch.float32 if tensors[0].dtype in HALF else None
    norms: Sequence[Tensor] = torch._foreach_norm(list(tensors), 2, dtype=dtype)
    return norms


def _norm_of_any(tensor: Tensor) -> float:
    """Norm of one tensor of any dtype, layout or placement, in the width its values need."""
    if is_sharded(tensor):
        return float(sharded_norms([tensor])[0])
    values = dense_values(tensor.detach())
    if is_plain(values) and is_long(values):
        return math.sqrt(square(values))
    dtype = torch.float32 if values.dtype in HALF else None
    return float(torch.linalg.vector_norm(values, dtype=dtype))
