"""What each rank knows of one step, told to all, where that can't be a number in the collective.

Through the key-value store of the process group: a collective that not every rank takes part in would be
matched with the training's own, and whoever is late or gone costs a bounded wait here and no more.
"""

from __future__ import annotations

from steadygrad.ranks.handshake import Peers, comes, store_of_all

PATIENCE_S = 10.0
"""Longest wait for the others; they are in the same step, whose gradients have just been exchanged."""


def exchange(peers: Peers, about: str, text: str) -> dict[int, str]:
    """Tell the others something and hear what they have to say, each under its rank.

    Args:
        peers: who takes part.
        about: what it is about, the same on every rank and never used twice.
        text: what this rank knows; empty if nothing.

    Returns:
        What each rank said; one that said nothing in time is missing.
    """
    store = store_of_all()
    keys = [f"{peers.prefix}/{about}/{rank}" for rank in range(peers.world)]
    store.set(keys[peers.rank], text)
    present = [comes(store, key, PATIENCE_S / peers.world) for key in keys]
    return {rank: store.get(key).decode() for rank, key in enumerate(keys) if present[rank]}
