"""Recovery and checkpoints as the processes that train need them: of one alone, or of several ranks together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from torch import nn

from steadygrad.containment import Containment
from steadygrad.measure import Spending
from steadygrad.ranks import Ranks
from steadygrad.records import Reading
from steadygrad.recover.checkpoints import Checkpoints
from steadygrad.recover.joint_checkpoints import JointCheckpoints
from steadygrad.recover.joint_rescue import JointRescue
from steadygrad.recover.plan import Rollback
from steadygrad.recover.rescue import Rescue
from steadygrad.recover.roles import Guarded, Outlet
from steadygrad.recover.stage_checkpoints import StageCheckpoints
from steadygrad.stepping import Waiter

PART = "recovery"


class Book(Outlet, Protocol):
    """Whoever is listened to; `steadygrad.logbook.Logbook` is one."""

    containment: Containment
    spending: Spending
    starters: list[tuple[str, Callable[[], None]]]
    enders: list[tuple[str, Callable[[int], None]]]
    listeners: list[tuple[str, Callable[[Reading], None]]]
    waiters: list[Waiter]
    scalar_listeners: list[tuple[str, Callable[[int, str, float], None]]]


def make_rescue(
    model: nn.Module,
    tracks: Sequence[Guarded],
    plan: Rollback | None,
    ranks: Sequence[Ranks],
    *,
    overhead: float,
    late: bool,
    book: Book,
) -> Rescue | None:
    """Recovery, listening before everybody else: what it undoes must not be looked at.

    Args:
        model: held weakly.
        tracks: its optimizers.
        plan: how to go back; None doesn't.
        ranks: this rank's side of each optimizer's collective; empty where one process trains alone.
        overhead: share of the step time that the guard may take in all.
        late: the numbers live on an accelerator.
        book: is listened to, and told what is done.
    """
    if plan is None:
        return None
    kind: Callable[..., Rescue] = partial(JointRescue, ranks) if ranks else Rescue
    make = partial(
        kind, model, tracks, plan, overhead=overhead, late=late, outlet=book, spending=book.spending
    )
    rescue = book.containment.run(PART, make)
    if rescue is not None:
        book.starters.append((PART, rescue.begins))
        book.enders.append((PART, rescue.ended))
        book.scalar_listeners.append((PART, rescue.scalar))
        book.listeners.append((PART, rescue.stepped))
        book.waiters.append(rescue)
    return rescue


def make_checkpoints(
    model: nn.Module,
    tracks: Sequence[Guarded],
    plan: Rollback,
    ranks: Sequence[Ranks],
    *,
    late: bool,
    book: Book,
) -> Checkpoints:
    """Checkpoints, written by all ranks together where the weights are cut over them.

    Args:
        model: held weakly.
        tracks: its optimizers.
        plan: what else makes the state.
        ranks: as in `make_rescue`.
        late: the numbers live on an accelerator.
        book: where a refusal is told.
    """
    return _kind(ranks)(model, tracks, plan, late=late, outlet=book)


def _kind(ranks: Sequence[Ranks]) -> Callable[..., Checkpoints]:
    if not any(one.sharded for one in ranks):
        return Checkpoints
    peers = ranks[0].peers
    return partial(JointCheckpoints if peers.rows is None else StageCheckpoints, peers)
