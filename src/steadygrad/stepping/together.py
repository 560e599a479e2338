"""Have the tracks of a monitor measure together with those of the other ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.containment import Containment
from steadygrad.errors import UsageError
from steadygrad.measure import ParamTable, group_hyper
from steadygrad.policies.base import Policy
from steadygrad.ranks import (
    Apart,
    Newcomers,
    Peers,
    Ranks,
    ReplicaGroups,
    among_several,
    expect_farewell,
    layout_for,
    meet,
    tell,
    tell_rank,
)
from steadygrad.records import Finding, Reading
from steadygrad.stepping.track import Track


class Losses(Protocol):
    """Where the losses come in; `steadygrad.scalars.Scalars` is one."""

    loss_to: list[Callable[[float | Tensor, bool], None]]


class Book(Protocol):
    """Where it is said and told: the logbook."""

    tellers: list[Callable[[Finding], Finding]]
    listeners: list[tuple[str, Callable[[Reading], None]]]
    containment: Containment

    @property
    def scalars(self) -> Losses:
        """The numbers that are logged."""

    def say(self, key: str, text: str) -> None:
        """One line on stderr."""

    @property
    def records(self) -> bool:
        """Whether a run file is being written."""

    def own_norm(self, step: int, norm: float) -> None:
        """Write down what this rank's gradient was before it was reduced."""


def meet_ranks(
    model: nn.Module,
    tables: Sequence[ParamTable],
    mode: str,
    recover: str,
    book: Book,
    groups: ReplicaGroups | None = None,
    policy: Policy | None = None,
    optimizers: Sequence[Optimizer] = (),
) -> Peers | Apart | None:
    """See whether several processes train this model, and whether all of them attach.

    Args:
        model: the module being trained.
        tables: the parameters of each optimizer.
        mode: ``watch`` or ``guard``.
        recover: how recovery was asked for, in words.
        book: is told why they don't work together.
        groups: over which ranks tensors are replicated, where that was handed in; then the tables get the rows of all
            ranks.
        policy: what to do with gradients.
        optimizers: one for each table, or none.
    """
    held = None if groups is None else {**tell(tables, groups), **_told_of(policy, optimizers)}
    params = [param for table in tables for param in table.params]
    met = meet(model, params, mode, recover, held)
    if groups is not None and isinstance(met, Peers) and met.rows is not None:
        for index, (table, rows) in enumerate(zip(tables, met.rows, strict=True)):
            table.lay_out(layout_for(met.rank, rows, table, groups, index))
    if isinstance(met, Apart) and not (met.conflict or met.misfit):
        parts = ", of its own parts of the parameters" if met.owns_parts else ""
        alone = f"each rank that has a {mode} judges by its own numbers{parts}"
        book.say("ranks", f"{mode}(): {met.reason}: {alone}.")
    if met is None and among_several() and torch.distributed.get_rank() == 0:
        book.say("ranks", _unknown(mode))
    return met


def _unknown(mode: str) -> str:
    return (
        f"{mode}(): {torch.distributed.get_world_size()} ranks, whose model is no DistributedDataParallel and has no DTensors: "
        "each judges by its own numbers. If they train one model (pipeline stages, experts, gradients reduced by hand), say over "
        f"which ranks its tensors are replicated: {mode}(..., replica_groups=...)."
    )


def check_replica_groups(mode: str, met: Peers | Apart | None) -> None:
    """Raise a UsageError, on every rank alike, where what was handed in can't be."""
    if isinstance(met, Apart) and met.misfit:
        raise UsageError(f"{mode}(replica_groups=...): {met.misfit}.")


def _told_of(policy: Policy | None, optimizers: Sequence[Optimizer]) -> dict[str, Any]:
    """What must be alike on ranks that hold different tensors, for them to come to one verdict."""
    rates = [_rates(policy, one) for one in optimizers]
    return {"policy": "" if policy is None else repr(policy), "rates": rates if any(rates) else []}


def _rates(policy: Policy | None, optimizer: Optimizer | None) -> list[Any]:
    """Of its parameter groups, where the policy sets a step beside the weights."""
    if policy is None or optimizer is None or not policy.needs_param_norms:
        return []
    return [astuple(group_hyper(group)) for group in optimizer.param_groups]


def join_ranks(
    met: Peers | Apart | None,
    tracks: Sequence[Track],
    book: Book,
    *,
    late: bool,
    groups: ReplicaGroups | None = None,
) -> list[Ranks]:
    """Join, where they do; one for each track, or none.

    Args:
        met: what came of meeting them.
        tracks: one for each optimizer.
        book: its findings are told with the rank that brought them.
        late: the numbers live on an accelerator.
        groups: over which ranks tensors are replicated, where that was handed in.
    """
    if not isinstance(met, Peers):
        if met is not None and met.owns_parts:
            for track in tracks:
                track.lane.own_parts()
        return []
    expect_farewell(met)
    tables = [track.table for track in tracks]
    joined = [
        Ranks(met, table.params, late=late, layout=table.layout, containment=book.containment)
        for table in tables
    ]
    for track, ranks in zip(tracks, joined, strict=True):
        track.lane.join(ranks)
        book.scalars.loss_to.append(ranks.log)
        if groups is not None:
            track.meets(ranks, Newcomers(met, groups, track.index), _rates)
    book.tellers.append(partial(tell_rank, joined))
    if met.replicated and book.records:
        book.listeners.append(("ranks", partial(_tell_own_norm, joined[0], book)))
    return joined


def _tell_own_norm(ranks: Ranks, book: Book, reading: Reading) -> None:
    seen = ranks.seen(reading.step) if reading.optimizer == 0 else None
    norm = -1.0 if seen is None else seen.norm_of(ranks.peers.rank)
    if not norm < 0.0:  # NaN is told too
        book.own_norm(reading.step, norm)
