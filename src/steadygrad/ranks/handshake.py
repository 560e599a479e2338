"""Who takes part: agreed on once, through the store of the process group, and never by a wait without end.

A script may attach on rank 0 only. A collective would then wait for ever, so each rank leaves a note in the
store; rank 0 reads them all, and one word, written once, holds for everybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.measure import is_sharded
from steadygrad.ranks.shards import parts

PATIENCE_S = 20.0
"""How long to wait for the other ranks to attach too: they come from the same line of the same script."""

_attached = count()


@dataclass(frozen=True, slots=True)
class Peers:
    """The ranks of one training that have agreed to measure together.

    Attributes:
        rank: this one.
        world: how many there are.
        prefix: begins the name of every note in the store.
        replicated: each rank has a gradient of its own before DDP reduces it.
    """

    rank: int
    world: int
    prefix: str
    replicated: bool

    def silent(self, call: int, patience_s: float) -> list[int]:
        """Ranks that don't answer when asked after a collective has failed.

        Args:
            call: number of the collective.
            patience_s: seconds to wait for each answer.
        """
        try:
            store = store_of_all()
            store.set(f"{self.prefix}/here/{call}/{self.rank}", "1")
        except (RuntimeError, OSError):
            return [0]  # it serves the store
        return [
            r for r in range(self.world) if not comes(store, f"{self.prefix}/here/{call}/{r}", patience_s)
        ]


def meet(model: nn.Module, tensors: Sequence[Tensor], mode: str) -> Peers | str | None:
    """Agree with the other ranks; every rank gets the same answer.

    Args:
        model: the module being trained.
        tensors: the parameters of all optimizers.
        mode: ``watch`` or ``guard``.

    Returns:
        The peers; a line that says why there are none; None where one process trains alone, or in a way that
        is not known here.
    """
    dist = torch.distributed
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return None
    replicated = any(isinstance(one, nn.parallel.DistributedDataParallel) for one in model.modules())
    if not replicated and not any(map(is_sharded, tensors)):
        return None
    peers = Peers(dist.get_rank(), dist.get_world_size(), f"steadygrad/{next(_attached)}", replicated)
    answer = _agree(store_of_all(), peers, _fingerprint(tensors, mode))
    return peers if answer == "yes" else f"{answer}: each rank that has a {mode} judges by its own numbers"


def _agree(store: Any, peers: Peers, own: str) -> str:
    store.set(f"{peers.prefix}/{peers.rank}", own)
    word = f"{peers.prefix}/word"
    if peers.rank == 0:
        others = [f"{peers.prefix}/{rank}" for rank in range(peers.world)]
        missing = [rank for rank, key in enumerate(others) if not comes(store, key, PATIENCE_S / peers.world)]
        answer = "yes"
        if missing:
            answer = f"ranks {missing} attached nothing"
        elif any(store.get(key).decode() != own for key in others):
            answer = "the ranks train different parameters"
    else:
        answer = "" if comes(store, word, PATIENCE_S) else "rank 0 attached nothing"
    # Whoever gives up writes so: the first word holds, also for a rank 0 that comes late.
    held: str = store.compare_set(word, "", answer).decode() if answer else store.get(word).decode()
    return held


def comes(store: Any, key: str, patience_s: float) -> bool:
    """Whether a note is in the store, or comes within so many seconds."""
    try:
        store.wait([key], timedelta(seconds=patience_s))
    except RuntimeError:
        return False
    return True


def _fingerprint(tensors: Sequence[Tensor], mode: str) -> str:
    told = [(tuple(one.shape), str(one.dtype), parts(one)) for one in tensors]
    return hashlib.sha256(repr((mode, told)).encode()).hexdigest()


def store_of_all() -> Any:
    """The store that all ranks share."""
    # The only way to a store that all ranks share; torch's own elastic agent goes it too.
    return torch.distributed.distributed_c10d._get_default_store()  # noqa: SLF001
