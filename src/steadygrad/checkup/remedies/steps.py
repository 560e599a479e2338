"""Remedies of the size of the steps."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from steadygrad.attachment import guard
from steadygrad.checkup.rehearsal import Setup
from steadygrad.checkup.remedies.plan import Case, Plan
from steadygrad.checkup.stability import limit
from steadygrad.notices import quiet
from steadygrad.records import Remedy

WARM_UP = 20
USUAL = {"SGD": 0.01, "Adagrad": 0.01, "LBFGS": 1.0}
"""Rates with which most people begin; 0.001 for all others."""

SMALLEST_EPS = 1e-16
"""Below it epsilon is as good as 0 in float32: squares of gradients underflow at 1e-45."""

_RATE = 'optimizer.param_groups[0]["lr"]'


def steps_plans(case: Case) -> Iterator[Plan]:
    """Rates, warm-up, clip, guard, epsilon."""
    optimizer = case.seen.optimizer
    assert optimizer is not None
    lr = float(optimizer.param_groups[0].get("lr", 0.0))
    rates = {"Lower the learning rate": [lr / 10, lr / 100], "Raise the learning rate": [lr * 10, lr * 100]}
    usual = USUAL.get(type(optimizer).__name__, 1e-3)
    if not lr / 1000 < usual < lr * 1000 or abs(math.log10(max(lr, 1e-30) / usual)) > 0.5:
        rates.setdefault("Lower the learning rate" if usual < lr else "Raise the learning rate", []).append(
            usual
        )
    if case.kinds & {"stalled_update", "vanishing_gradient"}:
        rates.setdefault("Raise the learning rate", []).extend(one for one in (10 * usual,) if one > lr)
    found = (
        limit(case.seen.model, optimizer, case.seen.batch, case.seen.loss_fn)
        if math.isfinite(case.seen.loss)
        else None
    )
    if found is not None and found.lr < lr:
        # Half of what is stable: the curvature grows a little before it falls.
        rates["Lower the learning rate"].insert(0, found.lr / 2)
    for action, values in rates.items():
        for value in dict.fromkeys(float(f"{value:.2g}") for value in values):
            yield Plan(Remedy(action, f"{_RATE} = {value:.2g}"), "steps", partial(_rate, lr=value))
    warm = f"torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters={10 * WARM_UP})"
    yield Plan(Remedy("Warm the learning rate up", warm), "steps", _warm_up)
    yield Plan(Remedy("Guard the run", "guard = steadygrad.guard(model, optimizer)"), "steps", _guarded)
    clip = "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)"
    yield Plan(Remedy("Clip the gradient", clip), "steps", lambda setup: setup.before_step.append(_clip))
    yield from _epsilons(case)


def _epsilons(case: Case) -> Iterator[Plan]:
    """A larger epsilon where it is 0, or 0 in half precision; a smaller one where gradients are tiny."""
    optimizer = case.seen.optimizer
    assert optimizer is not None
    known = [
        float(group["eps"]) for group in optimizer.param_groups if isinstance(group.get("eps"), (int, float))
    ]
    if not known:
        return
    half = any(param.dtype == torch.float16 for param in case.seen.model.parameters())
    if half or min(known) < SMALLEST_EPS:
        eps, action = (1e-4 if half else 1e-8), "Enlarge epsilon"
    elif "vanishing_gradient" in case.kinds:
        eps, action = 1e-12, "Shrink epsilon"
    else:
        return
    code = f'optimizer.param_groups[0]["eps"] = {eps:g}'
    yield Plan(Remedy(action, code), "steps", partial(_epsilon, eps=eps))


def _rate(setup: Setup, lr: float) -> None:
    first = float(setup.optimizer.param_groups[0]["lr"])
    for group in setup.optimizer.param_groups:
        # Groups keep their proportion.
        group["lr"] = lr * (float(group["lr"]) / first if first > 0 else 1.0)


def _epsilon(setup: Setup, eps: float) -> None:
    for group in setup.optimizer.param_groups:
        group["eps"] = eps


def _warm_up(setup: Setup) -> None:
    base = [float(group["lr"]) for group in setup.optimizer.param_groups]

    def warm(setup: Setup, number: int) -> None:
        for group, lr in zip(setup.optimizer.param_groups, base, strict=True):
            group["lr"] = lr * min(1.0, max(0.01, number / (10 * WARM_UP)))

    setup.before_step.append(warm)


def _clip(setup: Setup, number: int) -> None:
    del number
    nn.utils.clip_grad_norm_(setup.model.parameters(), max_norm=1.0)


def _guarded(setup: Setup) -> None:
    setup.around.append(_guard)


@contextlib.contextmanager
def _guard(setup: Setup) -> Iterator[None]:
    # A rehearsal has nothing to say on stderr.
    with quiet(), guard(setup.model, setup.optimizer, max_consecutive_skips=None):
        yield
