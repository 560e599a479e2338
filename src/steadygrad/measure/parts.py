"""This rank's parts of tensors that are cut over several (DTensors)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steadygrad.measure.kinds import is_sharded
from steadygrad.measure.measurement import Measurement


def own_part(tensor: Tensor) -> Tensor:
    """This rank's part, as a plain tensor; a sum that is still spread over the ranks is taken first."""
    if not is_sharded(tensor):
        return tensor
    # Detaching a DTensor takes longer than measuring a small one; without gradients to_local() hands out the part as it is.
    sharded = tensor.detach() if torch.is_grad_enabled() else tensor
    part: Tensor = _settled(sharded).to_local()
    # A collective's result may still be under way.
    wait = getattr(part, "wait", None)
    return part if wait is None else wait()


def settle_(measurement: Measurement) -> list[Tensor]:
    """This rank's parts of the gradients, ``p`` of them, to be written to.

    A gradient that is a sum still spread over the ranks is taken first and put in its place: what holds for
    an element of the sum can't be done to its summands.
    """
    if not any(map(is_sharded, measurement.grads)):
        return list(measurement.grads)
    grads = list(measurement.grads)
    for place, position in enumerate(measurement.holders()):
        if is_sharded(grads[place]) and _is_spread(grads[place]):
            measurement.params[position].grad = grads[place] = _settled(grads[place])
    measurement.grads = grads
    return [own_part(grad) for grad in grads]


def unit_norms(norms: Sequence[Tensor], wholes: Sequence[Tensor]) -> list[Tensor]:
    """Norms of whole units (rows, or tensors of one dimension) from those of this rank's parts of them.

    One ``all_reduce`` for each group of ranks that share units; none where every unit lies whole on a rank.

    Args:
        norms: for each tensor the norms of this rank's parts of its units.
        wholes: the tensors, to tell how they are cut.
    """
    joined = list(norms)
    sharing: dict[tuple[Any, int], list[int]] = {}
    for i, whole in enumerate(wholes):
        for dim in _unit_cuts(whole):
            sharing.setdefault((whole.device_mesh, dim), []).append(i)  # type: ignore[attr-defined]
    for (mesh, dim), members in sharing.items():
        squares = torch.cat([joined[i].reshape(-1).to(torch.float64).square() for i in members])
        torch.distributed.all_reduce(squares, group=mesh.get_group(dim))
        pieces = torch.split(squares.sqrt(), [joined[i].numel() for i in members])
        for i, some in zip(members, pieces, strict=True):
            joined[i] = some.view(joined[i].shape).to(joined[i].dtype)
    return joined


def _unit_cuts(tensor: Tensor) -> list[int]:
    """Dimensions of the mesh along which single units are cut."""
    if not is_sharded(tensor):
        return []
    cut: Any = tensor
    return [
        dim
        for dim, one in enumerate(cut.placements)
        if not (one.is_replicate() or one.is_partial()) and (tensor.ndim <= 1 or one.dim % tensor.ndim)
    ]


def _is_spread(tensor: Any) -> bool:
    return any(placement.is_partial() for placement in tensor.placements)


def _settled(tensor: Any) -> Any:
    if not _is_spread(tensor):
        return tensor
    from torch.distributed.tensor import Replicate  # noqa: PLC0415 - is there, or no DTensor would be

    whole = [Replicate() if one.is_partial() else one for one in tensor.placements]
    return tensor.redistribute(placements=whole)
