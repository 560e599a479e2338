"""What each rank knows of one step, told to all, where that can't be a number in the collective.

Through the key-value store of the process group: a collective that not every rank takes part in would be
matched with the training's own, and whoever is late or gone costs a bounded wait here and no more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from steadygrad.ranks.peers import Peers, comes, store_of_all

PATIENCE_S = 10.0
"""Longest wait for the others; they are in the same step, whose gradients have just been exchanged."""
LEAST_S = 0.01
"""For a note that is there."""


def exchange(peers: Peers, about: str, text: str) -> dict[int, str]:
    """Tell the others something and hear what they have to say, each under its rank.

    Rank 0 reads what each has left and writes one note for all: the store is asked three times a rank, and not once for
    each pair of ranks.

    Args:
        peers: who takes part.
        about: what it is about, the same on every rank and never used twice.
        text: what this rank knows; empty if nothing.

    Returns:
        What each rank said; one that said nothing in time is missing. Where rank 0 is, nothing but this rank's own may be
        left.

    Raises:
        RankLost: rank 0, which serves the store, is gone.
    """
    alone = json.dumps({peers.rank: text})
    said = json.loads(agree(peers, about, text, json.dumps, unheard=alone, patience_s=PATIENCE_S))
    return {**{int(rank): one for rank, one in said.items()}, peers.rank: text}


def heard(store: Any, keys: Mapping[int, str], patience_s: float) -> dict[int, str]:
    """What each rank has left under its key, or leaves there before all the patience is used up.

    Args:
        store: the one that all share.
        keys: by rank.
        patience_s: longest wait for all of them together.
    """
    until = time.monotonic() + patience_s
    found = {}
    for rank, key in keys.items():
        if comes(store, key, max(LEAST_S, until - time.monotonic())):
            found[rank] = store.get(key).decode()
    return found


def agree(
    peers: Peers,
    about: str,
    own: str,
    judge: Callable[[dict[int, str]], str],
    *,
    unheard: str,
    patience_s: float,
) -> str:
    """One answer that holds on every rank: rank 0 hears all and judges, and the first word written stands.

    Args:
        peers: who takes part.
        about: what it is about, the same on every rank and never used twice.
        own: what this rank has to say.
        judge: makes the answer of what each rank said, on rank 0; who said nothing in time is missing.
        unheard: the answer where rank 0 itself doesn't come.
        patience_s: longest wait.

    Raises:
        RankLost: rank 0, which serves the store, is gone.
    """
    notes = f"{peers.prefix}/{about}"
    word = f"{notes}/word"
    try:
        store = store_of_all()
        store.set(f"{notes}/{peers.rank}", own)
        if peers.rank == 0:
            answer = judge(heard(store, {rank: f"{notes}/{rank}" for rank in range(peers.world)}, patience_s))
        else:
            # Longer than rank 0 waits for the others: it knows better who is missing.
            answer = "" if comes(store, word, 1.25 * patience_s) else unheard
        # Whoever gives up writes so: the first word holds, also for a rank 0 that comes late.
        held: str = store.compare_set(word, "", answer).decode() if answer else store.get(word).decode()
    except torch.distributed.DistError as error:
        raise peers.lost([0]) from error
    return held
