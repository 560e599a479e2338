"""L2 norms of a list of tensors of any kind, in as few passes as possible.

Two engines give the same numbers:

* `HostNorms` for tensors in host memory, where reading a number costs nothing: float32 sums in one fused
  call, many tiny tensors taken together, and only the rare tensor whose float32 sum overflowed measured again.
* `device_norms` for accelerators, where the host must not look: one fused call per dtype that sums
  in float64, so a finite gradient can't overflow and no second look is needed.

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
# The fused call takes tensor after tensor on the calling thread alone. A dot product is shared among threads: a
# third faster on long tensors and two free processors, but beside another program each product waits until its last
# thread has had its turn (26 tensors of a transformer: 0.4 ms, and 100 times that). And a float32 sum of more
# elements than this loses digits (a hundred million of 0.01: 100.40, not 100), so longer tensors go in pieces,
# whose squares are summed in float64.
DOT_NUMEL = 262_144
# Below this norm the squares of a hundred million elements begin to fall under float32's range.
LEAST_SURE = 1e-15
_MOST_FLOAT32 = float(np.finfo(np.float32).max)
_HALF = (torch.float16, torch.bfloat16)
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
            if min(each) > LEAST_SURE and total < (_MOST_FLOAT32 if dtype is np.float32 else math.inf):
                return np.array(each, dtype), total
            with np.errstate(over="ignore"):  # what overflows here is measured again
                norms: FloatArray = np.array(each, dtype)
        else:
            wide = np.sqrt(self._squares(tensors))
            total = math.sqrt(np.vdot(wide, wide))
            norms = self._narrowed(wide)
            if wide.min(initial=np.inf) > LEAST_SURE and total < math.inf:
                return norms, total
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
        self._odd: list[int] = []
        for i, tensor in enumerate(tensors):
            if i in taken:
                continue
            if not _is_plain(tensor):
                self._odd.append(i)
            elif _is_flat(tensor) and tensor.numel() > DOT_NUMEL:
                dots.append(i)
            else:
                fused.setdefault(tensor.dtype, []).append(i)
        self._dots = _Pick(dots)
        self._fused = [_Pick(members) for members in fused.values()]
        self._are_few = not taken and len(tensors) > 0
        self._is_one_call = self._are_few and len(fused) == 1 and not (dots or self._odd)
        engines = [*self._alike, self._tiny, self._dots, *self._fused]
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
        fused = [norm.item() for pick in self._fused for norm in _fused_host_norms(pick(tensors))]
        return fused + [_norm_of_any(tensors[i]) for i in self._odd]

    def _dot_squares(self, tensors: Sequence[Tensor]) -> list[float]:
        if tensors and tensors[0].dtype != torch.float32:
            raise TypeError("the plan is of other tensors")
        return [_squared_norm(tensor) for tensor in tensors]

    def _squares(self, tensors: Sequence[Tensor]) -> NDArray[np.float64]:
        parts: list[Any] = [_row_squares(pick(tensors)) for pick in self._alike]
        if self._tiny.members:
            parts.append(self._piece_squares(self._tiny(tensors)))
        parts.append(self._dot_squares(self._dots(tensors)))
        parts.append([norm * norm for norm in self._others(tensors)])
        squares: NDArray[np.float64] = np.concatenate(parts, dtype=np.float64)[self._order]
        return squares

    def _narrowed(self, norms: NDArray[np.float64]) -> FloatArray:
        if not (self._fused or self._odd):
            return norms.astype(np.float32)
        with np.errstate(over="ignore"):  # as above
            return norms.astype(np.float32)

    def _piece_squares(self, tensors: Sequence[Tensor]) -> NDArray[np.float64]:
        flat = _side_by_side(tensors)
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
        if _is_plain(tensor) and _is_flat(tensor) and tensor.dim() and tensor.numel() <= ALIKE_NUMEL:
            shapes.setdefault(tensor.shape, []).append(i)
    return list(shapes.values())


def _parts(members: list[int], tensors: Sequence[Tensor]) -> list[list[int]]:
    """The members, as many together as are copied at once."""
    count = max(1, COPIED_NUMEL // tensors[members[0]].numel())
    return [members[i : i + count] for i in range(0, len(members), count)]


def _is_flat(tensor: Tensor) -> bool:
    """Whether the tensor is float32 and lies in memory as one row, so that nothing has to be copied to see it so."""
    return tensor.dtype == torch.float32 and tensor.numel() > 0 and tensor.is_contiguous()


def _side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """All their numbers in one row; torch's own flattening saves a Python call a tensor."""
    flat: Tensor = torch._C._nn.flatten_dense_tensors(list(tensors))  # noqa: SLF001 - as DistributedDataParallel does
    return flat


def _row_squares(tensors: Sequence[Tensor]) -> FloatArray:
    # A gradient that is laid out otherwise by now makes the view raise, and so a new plan.
    rows = torch.cat(tensors).view(len(tensors), -1)  # type: ignore[arg-type] # any sequence will do
    if rows.dtype != torch.float32 or rows.shape[1] != tensors[0].numel():
        raise TypeError("the plan is of other tensors")
    numbers = rows.numpy()
    # Not torch's norm over the rows: waking its second thread costs more than this whole sum.
    squares: FloatArray = np.einsum("ij,ij->i", numbers, numbers)
    return squares


def _squared_norm(tensor: Tensor) -> float:
    pieces: Sequence[Tensor] = torch.split(tensor.view(-1), DOT_NUMEL)
    return math.fsum(torch.dot(piece, piece).item() for piece in pieces)


def _is_plain(tensor: Tensor) -> bool:
    """Whether the fused norm takes it as it is: dense and of no subclass."""
    return type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided


def _fused_host_norms(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    dtype = torch.float32 if tensors[0].dtype in _HALF else None
    norms: Sequence[Tensor] = torch._foreach_norm(list(tensors), 2, dtype=dtype)
    return norms


def _norm_of_any(tensor: Tensor) -> float:
    """Norm of one tensor of any dtype, layout or placement, in the width its values need."""
    if is_sharded(tensor):
        return float(sharded_norms([tensor])[0])
    values = dense_values(tensor.detach())
    dtype = torch.float32 if values.dtype in _HALF else None
    return float(torch.linalg.vector_norm(values, dtype=dtype))


def widened(norms: FloatArray, tensors: Sequence[Tensor]) -> FloatArray:
    """Measure again the tensors whose squares left float32's range at either end.

    Too large for the sum, or truly not finite? Too small, or truly 0? ``m = max|g|`` tells, and
    ``norm = m * ||g / m||`` can't overflow unless the norm itself does.
    """
    wide = norms.astype(np.float64)
    for i in _not_just_zeros(
        np.flatnonzero(~(norms > LEAST_SURE) | np.isinf(norms)).tolist(), norms, tensors
    ):
        if is_sharded(tensors[i]):
            wide[i] = float(sharded_norms([tensors[i]])[0])
            continue
        values = dense_values(tensors[i].detach())
        values = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
        largest = _largest(values) if values.numel() else 0.0
        wide[i] = largest
        if 0.0 < largest < math.inf:
            wide[i] = _norm_in_range(values, largest)
    return narrowed(wide, norms.dtype)


def _not_just_zeros(positions: list[int], norms: FloatArray, tensors: Sequence[Tensor]) -> list[int]:
    """Without the small tensors of zeros, which are looked at together: a detector has a score of them at each step."""
    small = [
        i
        for i in positions
        if norms[i] == 0.0
        and tensors[i].numel() <= TINY_NUMEL
        and (tensors[i].device.type, tensors[i].dtype) == ("cpu", torch.float32)
        and _is_plain(tensors[i])
    ]
    if len(small) < 2 or bool(_side_by_side([tensors[i] for i in small]).any()):
        return positions
    return sorted(set(positions).difference(small))


def _norm_in_range(values: Tensor, largest: float) -> float:
    """Norm of values whose squares leave float32's range, but not by much more once they are divided by the largest."""
    if values.dtype not in _HALF and values.dtype != torch.float32:
        return largest * float(torch.linalg.vector_norm(values.to(torch.float64) / largest))
    # By a power of two no digit is lost, and none of its products leaves float32.
    shift = max(-126, min(126, -math.frexp(largest)[1]))
    scaled = values.to(torch.float32) * 2.0**shift
    return math.ldexp(math.sqrt(_squared_norm(scaled.reshape(-1))), -shift)


def _largest(values: Tensor) -> float:
    """Largest absolute value, NaN where there is one; twenty times as fast as the norm of order infinity."""
    low, high = map(float, torch.aminmax(values))
    return math.nan if math.isnan(low) else max(-low, high)


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


def device_norms(tensors: Sequence[Tensor]) -> Tensor:
    """Norms ``[p]`` on the device of the first tensor, without the host reading anything.

    Summed in float64 where the device has it (the pass is bound by memory, not arithmetic), so the
    norm of a finite gradient is finite; what is float64 itself is divided by its largest element before.
    """
    buckets: dict[tuple[torch.device, torch.dtype, str], list[int]] = {}
    for i, tensor in enumerate(tensors):
        buckets.setdefault((tensor.device, tensor.dtype, _engine(tensor)), []).append(i)
    home = tensors[0].device
    parts = []
    for (device, _, engine), members in buckets.items():
        some = [tensors[i].detach() for i in members]
        part = sharded_norms(some) if engine == "sharded" else _fused_norms(some, device, engine)
        parts.append(part.to(home, non_blocking=True))
    norms = parts[0] if len(parts) == 1 else torch.cat([part.to(parts[0].dtype) for part in parts])
    if len(buckets) == 1:
        return norms
    order = torch.tensor([i for members in buckets.values() for i in members])
    return norms[torch.argsort(order).to(home, non_blocking=True)]


def _engine(tensor: Tensor) -> str:
    if is_sharded(tensor):
        return "sharded"
    return "dense" if tensor.layout == torch.strided else "sparse"


def _fused_norms(tensors: list[Tensor], device: torch.device, engine: str) -> Tensor:
    values = tensors if engine == "dense" else [dense_values(t) for t in tensors]
    if values[0].dtype in LONG:
        return torch.stack([scaled_norm(one) for one in values])
    return torch.stack(torch._foreach_norm(values, 2, dtype=sum_dtype(device, values[0])))


def scaled_norm(values: Tensor) -> Tensor:
    """Norm of float64 numbers, 0-d, that overflows only if it must; nobody reads how large they are."""
    if not values.numel():
        return torch.zeros((), dtype=torch.float64, device=values.device)
    largest = torch.linalg.vector_norm(values, math.inf)
    scale = torch.where((largest > 0.0) & torch.isfinite(largest), largest, 1.0)
    norm: Tensor = torch.linalg.vector_norm(values / scale) * scale
    return norm


def sum_dtype(device: torch.device, tensor: Tensor) -> torch.dtype:
    """The widest dtype the device can sum in; Apple's GPUs have no float64."""
    wide = device.type != "mps"
    if tensor.is_complex():
        return torch.complex128 if wide else torch.complex64
    return torch.float64 if wide else torch.float32


def sharded_norms(tensors: Sequence[Tensor]) -> Tensor:
    """True norms ``[p]`` of DTensors over all ranks.

    The norm of a DTensor is a DTensor that may still be partial: only ``full_tensor()`` is the
    whole truth. One collective for all of them where they share a mesh, else one each.
    """
    norms = [torch.linalg.vector_norm(t, dtype=sum_dtype(t.device, t)) for t in tensors]
    try:
        return _full(torch.stack(norms))
    except (RuntimeError, NotImplementedError, ValueError):
        return torch.stack([_full(norm) for norm in norms])


def _full(tensor: Tensor) -> Tensor:
    whole: Tensor = getattr(tensor, "full_tensor", lambda: tensor)()
    return whole
