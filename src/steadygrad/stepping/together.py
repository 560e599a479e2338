"""Have the tracks of a monitor measure together with those of the other ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from torch import nn

from steadygrad.ranks import Ranks, meet, tell_rank
from steadygrad.records import Finding
from steadygrad.stepping.track import Track


class Book(Protocol):
    """Where it is said and told: the logbook."""

    tellers: list[Callable[[Finding], Finding]]

    def say(self, key: str, text: str) -> None:
        """One line on stderr."""


def join_ranks(model: nn.Module, tracks: Sequence[Track], mode: str, book: Book, *, late: bool) -> None:
    """Join, where several processes train this model and all of them attach.

    Args:
        model: the module being trained.
        tracks: one for each optimizer.
        mode: ``watch`` or ``guard``.
        book: is told why they don't; its findings are told with the rank that brought them.
        late: the numbers live on an accelerator.
    """
    peers = meet(model, [param for track in tracks for param in track.table.params], mode)
    if isinstance(peers, str):
        book.say("ranks", f"{mode}(): {peers}.")
    if peers is None or isinstance(peers, str):
        return
    ranks = [Ranks(peers, track.table.params, late=late) for track in tracks]
    for track, one in zip(tracks, ranks, strict=True):
        track.lane.join(one)
    book.tellers.append(partial(tell_rank, ranks))
