"""Is the learning rate beyond what this loss allows? Tried on a copy, and explained by the curvature."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from torch.optim import LBFGS, Optimizer

from steadygrad.checkup.epsilon import damped
from steadygrad.checkup.look import Look
from steadygrad.checkup.pace import no_rate, too_slow
from steadygrad.checkup.plateau import at_a_constant
from steadygrad.checkup.reach import best_constant
from steadygrad.checkup.rehearsal import Rehearsal, Setup, copied, rehearse
from steadygrad.checkup.stability import limit
from steadygrad.detect.finding import make
from steadygrad.records import Finding

STEPS = 16

RUINED = 10.0
"""Loss after a few steps on one and the same batch over the loss before. Overshooting a little is healthy
(a catapult, Lewkowycz et al. 2020, arXiv:2003.02218, stays within a small factor and comes back)."""

SLOWER = (10.0, 100.0)

NO_PROGRESS = 0.95
"""Share of the first loss that a healthy rate falls below within `STEPS` on one batch."""

BETTER = 0.8
"""Loss of a smaller rate, over that of the rate as it is, that shows which of the two is wrong."""

HUGE = 0.5
"""Share of its own length by which the first step moves a weight matrix. Adam at a healthy rate moves one by a few
hundredths; where a tenth of the rate does as well after a step like this, the rate is beyond use."""

AS_WELL = 1.1

LANDED = 0.3
"""Share of the first loss below which a run that began with a leap has come down again: a catapult."""


class NotOnACopyError(Exception):
    """A copy can't stand in for the model."""


def first_steps(seen: Look) -> Iterator[Finding]:
    """Make the first few steps on a copy, for the checks that follow; finds nothing itself."""
    optimizer = seen.optimizer
    if optimizer is None or not math.isfinite(seen.loss) or not seen.connected or _begins_at_zero(optimizer):
        return iter(())
    first = copied(seen.model, optimizer, seen.batch, seen.loss_fn)
    tried = rehearse(first, STEPS)
    _check_stands_in(seen, tried)
    seen.copy, seen.tried = first, tried
    return iter(())


def rate(seen: Look) -> Iterator[Finding]:
    """What the first few steps have done."""
    optimizer, first, tried = seen.optimizer, seen.copy, seen.tried
    if optimizer is None or first is None or tried is None:
        return
    if not tried.moved and tried.losses:
        yield _stalled(seen, optimizer)
    elif _ruins(seen, tried):
        yield _too_high(seen, first, tried, "error")
    elif min(tried.losses[-4:]) >= NO_PROGRESS * tried.losses[0] or _leaps(optimizer, tried):
        calmer = None if "learning_rate_too_high" in seen.explained else _calmer(seen, optimizer, tried)
        if calmer is not None:
            yield _too_high(seen, calmer, tried, "warning")
        elif "stalled_update" not in seen.explained:
            slow = list(damped(seen, optimizer, tried)) or list(too_slow(seen, optimizer, tried))
            yield from slow or at_a_constant(seen, first, tried.losses)


def _calmer(seen: Look, optimizer: Optimizer, tried: Rehearsal) -> Setup | None:
    """A copy that a smaller rate has trained better; None where none does."""
    # The best of the last few: a catapult has come back down by then.
    late, best = _late(tried), min(tried.losses[-4:])
    stuck = best >= NO_PROGRESS * tried.losses[0]
    for factor in SLOWER:
        slower = copied(seen.model, optimizer, seen.batch, seen.loss_fn)
        for group in slower.optimizer.param_groups:
            group["lr"] = group["lr"] / factor
        run = rehearse(slower, STEPS)
        fell = run.finite and _late(run) < NO_PROGRESS * tried.losses[0]
        as_well = _leaps(optimizer, tried) and _late(run) < AS_WELL * best
        if fell and (as_well or (stuck and _late(run) < BETTER * late)):
            return slower
    return None


def _leaps(optimizer: Optimizer, tried: Rehearsal) -> bool:
    """Whether the first step was too long; one of LBFGS is a whole descent of up to twenty."""
    landed = 0 <= min(tried.losses[-4:]) < LANDED * tried.losses[0]
    return tried.update_ratio > HUGE and not landed and not isinstance(optimizer, LBFGS)


def _begins_at_zero(optimizer: Optimizer) -> bool:
    """A schedule that warms up from 0."""
    return all(group.get("lr") == 0 and group.get("initial_lr", 0) > 0 for group in optimizer.param_groups)


def _check_stands_in(seen: Look, tried: Rehearsal) -> None:
    """A loss function that uses the model itself doesn't use its copy."""
    if any(grad is not None and name not in tried.reached for name, grad in seen.grads.items()):
        raise NotOnACopyError("the loss function uses the model itself, so no step could be tried on a copy")


def _late(tried: Rehearsal) -> float:
    return median(tried.losses[-4:])


def _ruins(seen: Look, tried: Rehearsal) -> bool:
    """Whether the loss is far above where it began and above what a constant guess would give."""
    if not tried.finite:
        return True
    end = min(tried.losses[-2:])
    if end <= RUINED * abs(tried.losses[0]):
        return False
    output = seen.output_tensor
    guess = math.nan if output is None else best_constant(seen.loss_at, output.float()).loss
    return not end <= RUINED * abs(guess)


def _too_high(seen: Look, copy: Setup, tried: Rehearsal, severity: str) -> Finding:
    optimizer = seen.optimizer
    assert optimizer is not None
    lr = _lr(optimizer)
    evidence = {
        "lr": lr,
        "loss before": tried.losses[0],
        "loss after": tried.losses[-1],
        "update ratio": tried.update_ratio,
    }
    after = f"{tried.losses[-1]:.3g}" if tried.finite else "no finite number"
    return make(
        "learning_rate_too_high",
        "error" if severity == "error" else "warning",
        0,
        f"After {len(tried.losses) - 1} steps on one batch the loss is {after}, from {tried.losses[0]:.3g}: the rate "
        f"{lr:.3g} is too high{_explained(seen, copy, tried, evidence)}.",
        evidence=evidence,
    )


def _explained(seen: Look, copy: Setup, tried: Rehearsal, evidence: dict[str, float]) -> str:
    """The stability limit, where theory has one; written into the evidence too."""
    # Adam's preconditioner is known on a copy that has made a few sound steps; SGD has none to know.
    plain = type(copy.optimizer).__name__ == "SGD"
    model, optimizer = (seen.model, seen.optimizer) if plain else (copy.model, copy.optimizer)
    assert optimizer is not None
    found = limit(model, optimizer, seen.batch, seen.loss_fn)
    if found is None or found.lr > _lr(seen.optimizer or optimizer):
        return f" (the first step moves a weight matrix by {tried.update_ratio:.0%} of its length)"
    evidence |= {
        "sharpness": found.sharpness,
        "sharpness uncertainty": found.uncertainty,
        "stable below": found.lr,
    }
    return f"; descent is stable below {found}"


def _stalled(seen: Look, optimizer: Optimizer) -> Finding:
    if not any(bool(grad.any()) for grad in seen.grads.values() if grad is not None):
        return make(
            "vanishing_gradient",
            "error",
            0,
            "Every gradient is exactly 0: the loss doesn't change with any parameter.",
            evidence={"gain in all": 0.0},
        )
    lr = _lr(optimizer)
    if lr == 0.0:
        return no_rate(optimizer)
    return make(
        "stalled_update",
        "error",
        0,
        f"A step of {type(optimizer).__name__} at rate {lr:.3g} changes no parameter at all.",
        evidence={"lr": lr},
    )


def _lr(optimizer: Optimizer) -> float:
    return max((float(group["lr"]) for group in optimizer.param_groups if "lr" in group), default=0.0)
