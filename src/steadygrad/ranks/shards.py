"""Which part of a tensor this rank holds, and by how many ranks each part is held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steadygrad.measure import is_sharded


def parts(tensor: Tensor) -> int:
    """Into how many parts the ranks have cut the tensor; 1 where each holds all of it."""
    count = 1
    if is_sharded(tensor):
        sharded: Any = tensor
        for dim, placement in enumerate(sharded.placements):
            # FSDP2 over tensor parallel has a shard of its own kind, which is_shard() doesn't know everywhere.
            if not (placement.is_replicate() or placement.is_partial()):
                count *= sharded.device_mesh.size(dim)
    return count


def shares(tensors: Sequence[Tensor], world: int) -> Tensor:
    r"""What to multiply each rank's sum of squares by, ``[P]``, so that their sum over all ranks is the true one.

    A tensor in ``k`` parts on ``n`` ranks is held ``n / k`` times: :math:`\|g\|^2 = \sum_r (k / n) \|g_r\|^2`.

    Args:
        tensors: the parameters, ``P`` of them.
        world: number of ranks.
    """
    return torch.tensor([parts(tensor) / world for tensor in tensors], dtype=torch.float64)


def like(part: Tensor, whole: Tensor) -> Tensor:
    """A tensor cut as ``whole`` is, of which this rank holds ``part``."""
    if not is_sharded(whole):
        return part
    from torch.distributed.tensor import DTensor  # noqa: PLC0415 - is there, or no DTensor would be

    cut: Any = whole
    made: Tensor = DTensor.from_local(
        part, cut.device_mesh, cut.placements, run_check=False, shape=cut.shape, stride=cut.stride()
    )
    return made
