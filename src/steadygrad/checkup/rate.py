"""Is the learning rate beyond what this loss allows? Tried on a copy, and explained by the curvature."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch.optim import Optimizer

from steadygrad.checkup.look import Look
from steadygrad.checkup.reach import best_constant
from steadygrad.checkup.rehearsal import Rehearsal, copied, rehearse
from steadygrad.checkup.sharpness import sharpness
from steadygrad.detect.finding import make
from steadygrad.records import Finding

STEPS = 6
RUINED = 10.0
"""Loss after a few steps on one and the same batch over the loss before. Overshooting a little is healthy
(a catapult, Lewkowycz et al. 2020, arXiv:2003.02218, stays within a small factor and comes back)."""

_PLAIN = ("SGD",)


def rate(seen: Look) -> Iterator[Finding]:
    """What the first few steps would do."""
    optimizer = seen.optimizer
    if optimizer is None or not math.isfinite(seen.loss) or not seen.connected:
        return
    pair = copied(seen.model, optimizer)
    if pair is None:
        return
    tried = rehearse(pair, seen.batch, seen.loss_fn, STEPS)
    if not tried.moved and tried.losses:
        yield _stalled(optimizer)
        return
    if _ruins(seen, tried):
        yield _too_high(seen, optimizer, tried)


def _ruins(seen: Look, tried: Rehearsal) -> bool:
    """Whether the loss is far above where it began and above what a constant guess would give."""
    if not tried.finite:
        return True
    end = min(tried.losses[-2:])
    if end <= RUINED * abs(tried.losses[0]):
        return False
    output = seen.output_tensor
    guess = best_constant(seen.loss_at, output.float()) if output is not None and output.dim() else math.nan
    return not end <= RUINED * abs(guess)


def _too_high(seen: Look, optimizer: Optimizer, tried: Rehearsal) -> Finding:
    lr = _lr(optimizer)
    evidence = {
        "lr": lr,
        "loss before": tried.losses[0],
        "loss after": tried.losses[-1],
        "update ratio": tried.update_ratio,
    }
    limit = _limit(seen, optimizer, evidence)
    after = f"{tried.losses[-1]:.3g}" if tried.finite else "no finite number"
    return make(
        "learning_rate_too_high",
        "error",
        0,
        f"After {len(tried.losses) - 1} steps on one batch the loss is {after}, from {tried.losses[0]:.3g}: the rate "
        f"{lr:.3g} is too high{limit}.",
        evidence=evidence,
    )


def _limit(seen: Look, optimizer: Optimizer, evidence: dict[str, float]) -> str:
    """The stability limit, where theory has one; written into the evidence too."""
    if type(optimizer).__name__ not in _PLAIN:
        return f" (the first step moves a weight matrix by {evidence['update ratio']:.0%} of its length)"
    found = sharpness(seen.model, seen.batch, seen.loss_fn)
    if found is None or not found.value > 0:
        return ""
    momentum = float(optimizer.param_groups[0].get("momentum", 0.0))
    limit = (2.0 + 2.0 * momentum) / found.value
    evidence |= {"sharpness": found.value, "sharpness uncertainty": found.uncertainty, "stable below": limit}
    return f"; descent is stable below {limit:.2g}"


def _stalled(optimizer: Optimizer) -> Finding:
    return make(
        "stalled_update",
        "error",
        0,
        f"A step of {type(optimizer).__name__} at rate {_lr(optimizer):.3g} changes no parameter at all.",
        evidence={"lr": _lr(optimizer)},
    )


def _lr(optimizer: Optimizer) -> float:
    return max((float(group["lr"]) for group in optimizer.param_groups if "lr" in group), default=0.0)
