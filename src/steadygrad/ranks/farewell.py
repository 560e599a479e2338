"""Which rank was it? Said when a process ends because another rank is gone.

A rank that dies in a forward or backward pass leaves the others in a collective of torch's own, whose error says that
a connection was closed, and not by whom. So a rank whose script ends with an exception leaves its last words in the
store that all share, and whoever ends because of a broken connection asks for those of the others.
"""

from __future__ import annotations

import atexit
import sys
from contextlib import suppress

import torch

from steadygrad.errors import TrainingStopped
from steadygrad.ranks.peers import Peers, store_of_all
from steadygrad.ranks.word import heard

PATIENCE_S = 5.0
"""Longest wait at the end of a process, twice: for the last words of others, and for those who still read ours."""
_BACKENDS = ("gloo", "nccl")
_MAX_CHARS = 200

_newest: Peers | None = None


def expect_farewell(peers: Peers) -> None:
    """Have it said at the end of this process, if it ends with an exception."""
    global _newest  # noqa: PLW0603 - a process ends once
    if _newest is None:
        atexit.register(_at_exit)
    _newest = peers


def _at_exit() -> None:
    # What python shows as an unhandled exception is here before the first exit handler runs.
    error = getattr(sys, "last_value", None)
    if _newest is None or error is None or isinstance(error, TrainingStopped):
        return
    try:
        text = farewell(_newest, error)
    except Exception:  # noqa: BLE001 - the group was taken down in order, or nothing is left to ask
        return
    if text:
        sys.stderr.write(f"steadygrad: {text}\n")


def farewell(peers: Peers, error: BaseException) -> str:
    """What this rank has to say at its end; empty where it is for another to say, or nothing is known.

    Args:
        peers: the ranks.
        error: ended this one.
    """
    is_broken = _is_broken(error)
    notes = f"{peers.prefix}/end"
    own = "" if is_broken else f"{type(error).__name__}: {error}".partition("\n")[0][:_MAX_CHARS]
    try:
        store = store_of_all()
        store.set(f"{notes}/{peers.rank}", own)
    except (RuntimeError, OSError):
        return _told({0: None}, peers) if is_broken and peers.rank else ""
    if not is_broken:
        return ""
    others = [rank for rank in range(peers.world) if rank != peers.rank]
    words = heard(store, {rank: f"{notes}/{rank}" for rank in others}, PATIENCE_S)
    with suppress(RuntimeError, OSError):
        store.set(f"{notes}/read/{peers.rank}", "1")
    if peers.rank == 0:  # it serves the store: the others may still be reading
        heard(store, {rank: f"{notes}/read/{rank}" for rank, own in words.items() if not own}, PATIENCE_S)
    spoke = {rank: own for rank, own in words.items() if own}
    silent = [] if spoke else peers.gone([rank for rank in others if rank not in words])
    guilty: dict[int, str | None] = {**spoke, **dict.fromkeys(silent)}
    return _told(guilty, peers) if guilty and (peers.rank == 0 or 0 in guilty) else ""


def _is_broken(error: BaseException) -> bool:
    """Whether it is a broken connection of ``torch.distributed`` that ended this rank."""
    # gloo's own errors have no class of their own, but the path of its sources in them.
    named = any(one in str(error).lower() for one in _BACKENDS)
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and named)


def _told(guilty: dict[int, str | None], peers: Peers) -> str:
    silent = "died, or doesn't answer"
    told = [
        f"rank {rank} of {peers.world} has {silent if words is None else f'ended with {words}'}"
        for rank, words in guilty.items()
    ]
    return f"this is rank {peers.rank}, and it ends since {', '.join(told)}. Look at the output there."
