"""Is the learning rate so small that nothing would be learnt? Tried on copies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from torch.optim import Optimizer

from steadygrad.checkup.look import Look
from steadygrad.checkup.rehearsal import Rehearsal, copied, rehearse
from steadygrad.detect.finding import make
from steadygrad.records import Finding, Remedy

STEPS = 48
"""A rate that falls away by itself (Adagrad) and one that begins small by itself (RAdam) have parted by then."""

STANDS = 0.99
"""Share of the first loss that `STEPS` on one and the same batch must leave: fifty of them are said to be enough to
learn a batch by heart (the usual test of a training), and at this pace it would take thousands."""

FASTER = (100.0, 1000.0, 10_000.0)
"""Times the rate that are tried, until one learns."""

LEARNS = 0.8
"""Share of the first loss that a faster run must fall below, which shows that the rate is to blame."""


def too_slow(seen: Look, optimizer: Optimizer, tried: Rehearsal) -> Iterator[Finding]:
    """Whether many times the rate learns a batch that the rate as it is leaves alone.

    Args:
        seen: what the first step showed.
        optimizer: the training's own.
        tried: the first few steps at its rate.
    """
    start = tried.losses[0]
    if not start > 0 or min(tried.losses) < STANDS * start or not tried.finite or _warms_up(optimizer):
        return
    longer = _run(seen, optimizer, 1.0, STEPS)
    # Noise that moves the loss about (dropout, an agent's draws) would hide what is learnt.
    if any(not abs(loss - start) <= (1.0 - STANDS) * start for loss in longer.losses):
        return
    found = _first_that_learns(seen, optimizer, start)
    if found is None:
        return
    factor, reached = found
    lr = _lr(optimizer)
    finding = make(
        "stalled_update",
        "warning",
        0,
        f"{STEPS} steps on one batch lower the loss by {1 - min(longer.losses) / start:.1%}, half as many at "
        f"{factor:.0f} times the rate by {1 - reached / start:.0%}: the rate {lr:.3g} is too low.",
        evidence={
            "lr": lr,
            "loss before": start,
            "loss after": longer.losses[-1],
            "faster": reached,
        },
    )
    yield _led_by(finding, "learning rate is 0 or next to it", "Raise the learning rate")


def _first_that_learns(seen: Look, optimizer: Optimizer, start: float) -> tuple[float, float] | None:
    for factor in FASTER:
        run = _run(seen, optimizer, factor, STEPS // 2)
        if run.finite and run.losses[-1] < LEARNS * start:
            return factor, run.losses[-1]
    return None


def no_rate(optimizer: Optimizer) -> Finding:
    """A learning rate of 0 in every group, and no schedule that is known to raise it."""
    finding = make(
        "stalled_update",
        "error",
        0,
        f"The learning rate of {type(optimizer).__name__} is 0: its steps change nothing.",
        evidence={"lr": 0.0},
    )
    finding = _led_by(finding, "learning rate is 0 or next to it", "Look at the rate")
    first = Remedy("Give the optimizer a rate", f"torch.optim.{type(optimizer).__name__}(params, lr=1e-3)")
    return replace(finding, remedies=(first, *(one for one in finding.remedies if "Raise" not in one.action)))


def _run(seen: Look, optimizer: Optimizer, factor: float, steps: int) -> Rehearsal:
    twin = copied(seen.model, optimizer, seen.batch, seen.loss_fn)
    for group in twin.optimizer.param_groups:
        group["lr"] = group["lr"] * factor
    return rehearse(twin, steps)


def _warms_up(optimizer: Optimizer) -> bool:
    """A scheduler has noted a rate and set a smaller one for the start."""
    return any(
        float(group.get("initial_lr", 0.0)) > float(group.get("lr", 0.0)) for group in optimizer.param_groups
    )


def _led_by(finding: Finding, cause: str, remedy: str) -> Finding:
    """The cause and the remedy that are known to hold, in front."""
    return replace(
        finding,
        causes=tuple(sorted(finding.causes, key=lambda one: cause not in one)),
        remedies=tuple(sorted(finding.remedies, key=lambda one: remedy not in one.action)),
    )


def _lr(optimizer: Optimizer) -> float:
    return max((float(group["lr"]) for group in optimizer.param_groups if "lr" in group), default=math.nan)
