"""Who takes part: agreed on once, through the store of the process group, and never by a wait without end.

A script may attach on rank 0 only. A collective would then wait for ever, so each rank leaves a note in the
store; rank 0 reads them all, and one word, written once, holds for everybody.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.measure import is_sharded
from steadygrad.ranks.census import laid_out, misfit, packed, read, unpacked
from steadygrad.ranks.peers import Peers
from steadygrad.ranks.shards import parts
from steadygrad.ranks.word import agree

PATIENCE_S = 20.0
"""How long to wait for the other ranks to attach too: they come from the same line of the same script."""

_attached = count()


@dataclass(frozen=True, slots=True)
class Apart:
    """The ranks don't work together.

    Attributes:
        reason: why.
        conflict: they were asked for different things: wrong use, on every rank.
        misfit: why the replica groups handed in can't be: wrong use too, on every rank.
        misses: some of them will not be there when the others measure.
        cut: parameters are cut over the ranks.
        guards: it is a guard that was to be attached here.
    """

    reason: str
    conflict: bool = False
    misfit: str = ""
    misses: bool = False
    cut: bool = False
    guards: bool = False

    @property
    def owns_parts(self) -> bool:
        """Whether to measure this rank's parts alone: for the norm of a whole tensor all its ranks must come."""
        return self.misses and self.cut


def among_several() -> bool:
    """Whether this process has others beside it in ``torch.distributed``."""
    dist = torch.distributed
    return bool(dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


def meet(
    model: nn.Module,
    tensors: Sequence[Tensor],
    mode: str,
    recover: str = "",
    held: Mapping[str, Any] | None = None,
) -> Peers | Apart | None:
    """Agree with the other ranks; every rank gets the same answer.

    Args:
        model: the module being trained.
        tensors: the parameters of all optimizers.
        mode: ``watch`` or ``guard``.
        recover: how recovery was asked for, in words.
        held: what this rank holds, where replica groups were handed in; see `steadygrad.ranks.census`.

    Returns:
        The peers; why there are none; None where one process trains alone, or in a way that is not known here.
    """
    if not among_several():
        return None
    replicated = any(isinstance(one, nn.parallel.DistributedDataParallel) for one in model.modules())
    if held is None and not replicated and not any(map(is_sharded, tensors)):
        return None
    dist = torch.distributed
    peers = Peers(dist.get_rank(), dist.get_world_size(), f"steadygrad/{next(_attached)}", replicated)
    place = {"host": socket.gethostname(), "pid": os.getpid()}
    own = {"mode": mode, "recover": recover, "replicated": replicated, **place}
    own |= {"print": _fingerprint(tensors, mode)} if held is None else {"print": mode, "held": packed(held)}
    answer = agree(
        peers,
        "meet",
        json.dumps(own),
        lambda heard: json.dumps(_judge(heard, peers.world)),
        unheard=json.dumps(_apart("rank 0 attached nothing", misses=True)),
        patience_s=PATIENCE_S,
    )
    word = json.loads(answer)
    if "reason" in word:
        return Apart(**word, cut=any(map(is_sharded, tensors)), guards=mode == "guard")
    if "rows" in word:
        word["rows"] = unpacked(word["rows"])["tables"]
    return replace(peers, **word)


def _apart(reason: str, *, conflict: bool = False, misfit: str = "", misses: bool = False) -> dict[str, Any]:
    return {"reason": reason, "conflict": conflict, "misfit": misfit, "misses": misses}


def _judge(heard: dict[int, str], world: int) -> dict[str, Any]:
    missing = [rank for rank in range(world) if rank not in heard]
    if missing:
        return _apart(f"ranks {missing} attached nothing", misses=True)
    notes = [json.loads(heard[rank]) for rank in range(world)]
    watching = [rank for rank, note in enumerate(notes) if note["mode"] == "watch"]
    if 0 < len(watching) < world:
        return _apart(f"ranks {watching} have a watch, the others a guard", misses=True)
    held = read([note.get("held", "") for note in notes])
    if any(held) and (why := misfit(held)):
        return _apart("the replica groups don't fit", misfit=why)
    if len({note["print"] for note in notes}) > 1:
        return _apart("the ranks train different parameters")
    asked: dict[str, list[int]] = {}
    for rank, note in enumerate(notes):
        asked.setdefault(note["recover"], []).append(rank)
    if len(asked) > 1:
        told = (f"{what} on rank {', '.join(map(str, ranks[:8]))}" for what, ranks in asked.items())
        return _apart("; ".join(told), conflict=True)
    on_host = max(Counter(note["host"] for note in notes).values())
    if not any(held):
        return {"on_host": on_host}
    replicated = all(note["replicated"] for note in notes)
    return {
        "on_host": on_host,
        "replicated": replicated,
        "rows": packed({"tables": laid_out(held)}),
    }


def _fingerprint(tensors: Sequence[Tensor], mode: str) -> str:
    told = [(tuple(one.shape), str(one.dtype), parts(one)) for one in tensors]
    return hashlib.sha256(repr((mode, told)).encode()).hexdigest()
