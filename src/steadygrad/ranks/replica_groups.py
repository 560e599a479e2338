"""Over which ranks a tensor is replicated, where the script says so: pipeline stages, experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from steadygrad.errors import UsageError
from steadygrad.measure import is_sharded

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

ReplicaGroup: TypeAlias = "ProcessGroup | DeviceMesh | Sequence[int] | None"
"""What a tensor may be said to be replicated over."""

_EXPECTED = (
    "a dict of name patterns to what each is replicated over: a process group, a DeviceMesh, a list of ranks, or None for "
    'all ranks, as in {"experts.*": expert_data_parallel_group, "*": None}'
)


@dataclass(frozen=True, slots=True)
class ReplicaGroups:
    """Patterns, and the ranks that each stands for.

    Attributes:
        patterns: as in ``fnmatch``; the first one that matches a name counts.
        ranks: of each pattern the ranks of its group; empty where this rank isn't in it.
        world: number of ranks.
    """

    patterns: tuple[str, ...]
    ranks: tuple[tuple[int, ...], ...]
    world: int

    def match(self, name: str) -> int | None:
        """Position of the first pattern that matches."""
        return next((i for i, one in enumerate(self.patterns) if fnmatchcase(name, one)), None)

    def holders(self, name: str, tensor: Tensor) -> tuple[int, ...]:
        """The ranks that hold this tensor, or parts of it.

        Those of the first pattern that matches, else all. A DTensor's own mesh decides, except where the group
        handed in has that whole mesh in it: then the tensor is replicated beyond its mesh.
        """
        place = self.match(name)
        if not is_sharded(tensor):
            return tuple(range(self.world)) if place is None else self.ranks[place]
        mesh = mesh_ranks(tensor.device_mesh)  # type: ignore[attr-defined]
        given = () if place is None else self.ranks[place]
        return given if set(mesh) < set(given) else mesh


def as_replica_groups(call: str, given: object) -> ReplicaGroups | None:
    """What ``replica_groups=`` was given, as ranks; None where it was left out, or one process trains alone.

    Args:
        call: ``watch`` or ``guard``.
        given: pattern to process group, DeviceMesh, ranks or None.

    Raises:
        UsageError: it is something else, or there is no process group.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given or not all(isinstance(key, str) for key in given):
        raise UsageError(f"{call}(replica_groups={given!r}): expected {_EXPECTED}.")
    dist = torch.distributed
    if not dist.is_available() or not dist.is_initialized():
        raise UsageError(
            f"{call}(replica_groups=...): expected several ranks, but torch.distributed isn't initialised. Call "
            "torch.distributed.init_process_group() first, or leave replica_groups out in a single process."
        )
    world = dist.get_world_size()
    ranks = tuple(_ranks_of(call, pattern, group, world) for pattern, group in given.items())
    return ReplicaGroups(tuple(given), ranks, world) if world > 1 else None


def mesh_ranks(mesh: Any) -> tuple[int, ...]:
    """The ranks of a DeviceMesh of any number of dimensions."""
    return tuple(sorted(mesh.mesh.flatten().tolist()))


def _ranks_of(call: str, pattern: str, group: Any, world: int) -> tuple[int, ...]:
    dist = torch.distributed
    if group is None:
        return tuple(range(world))
    # What new_group() gives a rank that it doesn't name: its type has changed between versions.
    if type(group) is type(dist.GroupMember.NON_GROUP_MEMBER) and group == dist.GroupMember.NON_GROUP_MEMBER:
        return ()
    if isinstance(group, dist.ProcessGroup):
        try:
            return tuple(sorted(dist.get_process_group_ranks(group)))
        except (KeyError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"{call}(replica_groups={{{pattern!r}: ...}}): expected a process group of this training, got one that "
                "torch.distributed doesn't know (any more). Make it with torch.distributed.new_group()."
            ) from error
    if hasattr(group, "mesh") and hasattr(group, "mesh_dim_names"):
        return mesh_ranks(group)
    if isinstance(group, Sequence) and not isinstance(group, str) and group:
        if all(isinstance(rank, int) and 0 <= rank < world for rank in group):
            return tuple(sorted(set(group)))
        raise UsageError(
            f"{call}(replica_groups={{{pattern!r}: {group!r}}}): expected ranks from 0 to {world - 1}."
        )
    raise UsageError(f"{call}(replica_groups={{{pattern!r}: {group!r}}}): expected {_EXPECTED}.")
