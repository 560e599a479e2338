"""Norms of tensors on an accelerator, where the host must not look.

One fused call per dtype that sums in float64, so a finite gradient can't overflow and no second look is needed.

Shape legend: p tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from steadygrad.measure.kinds import LONG, NARROW, dense_values, is_sharded


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
    return "dense" if tensor.layout == torch.strided and tensor.dtype not in NARROW else "other"


def _fused_norms(tensors: list[Tensor], device: torch.device, engine: str) -> Tensor:
    values = tensors if engine == "dense" else [dense_values(t) for t in tensors]
    if values[0].dtype in LONG:
        return torch.stack([scaled_norm(one) for one in values])
    return torch.stack(torch._foreach_norm(values, 2, dtype=sum_dtype(device, values[0])))


def scaled_norm(values: Tensor) -> Tensor:
    """Norm of float64 numbers, 0-d, that overflows only if it must; nobody reads how large they are.

    ``m ||v / m||`` with ``m = max|v|``, which stays on the device. The quotient is a copy of all the numbers, in memory
    for as long as it takes to sum it.

    Args:
        values: of any shape, also none at all.
    """
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
