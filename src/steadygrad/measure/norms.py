"""L2 norms of a list of tensors of any kind, in as few passes as possible.

Two engines give the same numbers:

* `HostNorms` for tensors in host memory, where reading a number costs nothing: float32 sums, many
  tiny tensors taken together, and only the rare tensor whose float32 sum overflowed measured again.
* `device_norms` for accelerators, where the host must not look: one fused call per dtype that sums
  in float64, so a finite gradient can't overflow and no second look is needed.

Shape legend: p tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors  # a private name, but the one DDP itself is built on

from steadygrad.records import FloatArray

# Below this many elements the call costs more than the arithmetic: such tensors are copied side by
# side and summed in one go (402 tensors of 64 to 4,096 elements: 600 us one by one, 290 us so).
TINY_NUMEL = 1024
TINY_COUNT = 16
# From this many elements on, the dot product of a tensor with itself takes half the time of a norm:
# it runs on all threads (262,144 elements: 18 us against 31, with two threads).
LONG_NUMEL = 32_768
# A float32 dot product of more elements loses digits (a hundred million of 0.01: 100.40, not 100), so
# longer tensors go in pieces, whose squares are summed in float64.
DOT_NUMEL = 262_144
# Below this norm the squares of a hundred million elements begin to fall under float32's range.
LEAST_SURE = 1e-15
_HALF = (torch.float16, torch.bfloat16)


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

    def __call__(self, tensors: Sequence[Tensor]) -> FloatArray:
        """Norms ``[p]``: float32, or float64 where a finite norm doesn't fit float32."""
        try:
            norms = self._measure(tensors)
        except (RuntimeError, NotImplementedError, TypeError):
            self._plan(tensors)
            norms = self._measure(tensors)
        # Smallest and sum tell whether all were in range: no array of flags on a healthy step.
        sure = norms.min(initial=np.inf) > LEAST_SURE and np.isfinite(norms.sum(dtype=np.float64))
        return norms if sure else widened(norms, tensors)

    def _plan(self, tensors: Sequence[Tensor]) -> None:
        tiny = [i for i, t in enumerate(tensors) if _is_tiny(t)]
        self._tiny = tiny if len(tiny) >= TINY_COUNT else []
        sizes = [tensors[i].numel() for i in self._tiny]
        self._offsets = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
        self._tiny_numel = sum(sizes)
        self._long = [i for i, t in enumerate(tensors) if _is_long(t)]
        self._fused: dict[torch.dtype, list[int]] = {}
        self._odd: list[int] = []
        taken = {*self._tiny, *self._long}
        for i, tensor in enumerate(tensors):
            if i not in taken:
                members = self._fused.setdefault(tensor.dtype, []) if _is_plain(tensor) else self._odd
                members.append(i)
        self._one_bucket = len(self._fused) == 1 and not self._odd and not taken

    def _measure(self, tensors: Sequence[Tensor]) -> FloatArray:
        if self._one_bucket:
            return _fused_host_norms(list(tensors))
        norms = np.zeros(len(tensors), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow here is measured again
            if self._tiny:
                flat = self._side_by_side([tensors[i] for i in self._tiny])
                norms[self._tiny] = np.sqrt(np.add.reduceat(flat * flat, self._offsets))
            if self._long:
                norms[self._long] = np.sqrt(_squared_norms([tensors[i] for i in self._long]))
            for members in self._fused.values():
                norms[members] = _fused_host_norms([tensors[i] for i in members])
            for i in self._odd:
                norms[i] = _norm_of_any(tensors[i])
        return norms

    def _side_by_side(self, tensors: list[Tensor]) -> FloatArray:
        flat = _flatten_dense_tensors(tensors)  # type: ignore[no-untyped-call]
        if flat.numel() != self._tiny_numel or flat.dtype != torch.float32:
            raise TypeError("the plan is of other tensors")
        numbers: FloatArray = flat.numpy()
        return numbers


def _is_tiny(tensor: Tensor) -> bool:
    return _is_plain(tensor) and tensor.dtype == torch.float32 and 0 < tensor.numel() <= TINY_NUMEL


def _is_long(tensor: Tensor) -> bool:
    plain = _is_plain(tensor) and tensor.dtype == torch.float32
    return plain and tensor.numel() >= LONG_NUMEL and tensor.is_contiguous()


def _squared_norms(tensors: list[Tensor]) -> FloatArray:
    pieces = [torch.split(tensor.view(-1), DOT_NUMEL) for tensor in tensors]
    dots = torch.stack([torch.dot(piece, piece) for of_one in pieces for piece in of_one])
    squares: FloatArray = dots.numpy()
    if len(squares) == len(tensors):
        return squares
    starts = np.cumsum([0, *(len(of_one) for of_one in pieces[:-1])], dtype=np.int64)
    return np.add.reduceat(squares.astype(np.float64), starts)


def _is_plain(tensor: Tensor) -> bool:
    """Whether the fused norm takes it as it is: dense and of no subclass."""
    return type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided


def _fused_host_norms(tensors: list[Tensor]) -> FloatArray:
    dtype = torch.float32 if tensors[0].dtype in _HALF else None
    norms: FloatArray = torch.stack(torch._foreach_norm(tensors, 2, dtype=dtype)).numpy()
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
    for i in np.flatnonzero(~(norms > LEAST_SURE) | np.isinf(norms)).tolist():
        if is_sharded(tensors[i]):
            wide[i] = float(sharded_norms([tensors[i]])[0])
            continue
        values = dense_values(tensors[i].detach())
        values = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
        largest = float(torch.linalg.vector_norm(values, math.inf)) if values.numel() else 0.0
        wide[i] = largest
        if 0.0 < largest < math.inf:
            # Divided in float64: a float16 quotient would lose the small elements.
            wide[i] *= float(torch.linalg.vector_norm(values.to(torch.float64) / largest))
    fits = ~(wide > np.finfo(norms.dtype).max) | np.isinf(wide)
    return wide.astype(norms.dtype) if fits.all() else wide


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
    norm of a finite gradient is finite.
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
    return torch.stack(torch._foreach_norm(values, 2, dtype=sum_dtype(device, values[0])))


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
