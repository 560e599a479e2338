"""Is the epsilon in the optimizer's denominator so far above the gradients that it sets the pace? Tried on a copy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor
from torch.optim import Optimizer

from steadygrad.checkup.look import Look
from steadygrad.checkup.rehearsal import Rehearsal, copied, rehearse
from steadygrad.detect.finding import make
from steadygrad.records import Finding, Remedy

STEPS = 48

USUAL = 1e-8
"""What Adam and its kin begin with (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1)."""

DWARFED = 10.0
"""Epsilon over the root mean square of the gradients: a step is then a tenth, at most, of what the rate says."""

STANDS = 0.95
"""Share of the first loss that `STEPS` on one and the same batch must leave."""

LEARNS = 0.8
"""Share of the first loss that as many with the usual epsilon must fall below."""


def damped(seen: Look, optimizer: Optimizer, tried: Rehearsal) -> Iterator[Finding]:
    """Whether the usual epsilon learns a batch that the one there is leaves alone.

    Args:
        seen: what the first step showed.
        optimizer: the training's own.
        tried: the first few steps.
    """
    start = tried.losses[0]
    eps = max((_epsilon(group) for group in optimizer.param_groups), default=0.0)
    size = _size([one for one in seen.grads.values() if one is not None])
    if not start > 0 or not tried.finite or not 0 < DWARFED * size < eps:
        return
    as_it_is, usual = _run(seen, optimizer, eps, STEPS), _run(seen, optimizer, USUAL, STEPS)
    if (
        not min(as_it_is.losses) >= STANDS * start
        or not usual.finite
        or not usual.losses[-1] < LEARNS * start
    ):
        return
    finding = make(
        "stalled_update",
        "warning",
        0,
        f"{STEPS} steps on one batch lower the loss by {1 - min(as_it_is.losses) / start:.1%}, with an "
        f"epsilon of {USUAL:.0e} by {1 - usual.losses[-1] / start:.0%}: the epsilon {eps:.3g} is far above the "
        f"gradients ({size:.2g}, root mean square), so every step is divided by it instead of by their size.",
        evidence={
            "epsilon": eps,
            "gradient": size,
            "loss before": start,
            "loss after": as_it_is.losses[-1],
        },
    )
    cause = "The optimizer's epsilon is far above the gradients."
    cure = Remedy(
        "Give the optimizer its usual epsilon",
        f'for group in optimizer.param_groups:\n    group["eps"] = {USUAL:.0e}',
    )
    yield replace(finding, causes=(cause, *finding.causes), remedies=(cure, *finding.remedies))


def _size(grads: list[Tensor]) -> float:
    """Root mean square of all their elements."""
    squares = sum(float(one.double().square().sum()) for one in grads)
    return math.sqrt(squares / max(1, sum(one.numel() for one in grads)))


def _epsilon(group: dict[str, object]) -> float:
    """What is added to the size of the gradients; Adadelta's is added to a square, and stands above as well."""
    eps = group.get("eps")
    sized = any(name in group for name in ("betas", "alpha", "initial_accumulator_value"))
    return float(eps) if sized and isinstance(eps, (int, float)) and math.isfinite(eps) else 0.0


def _run(seen: Look, optimizer: Optimizer, eps: float, steps: int) -> Rehearsal:
    twin = copied(seen.model, optimizer, seen.batch, seen.loss_fn)
    for group in twin.optimizer.param_groups:
        group["eps"] = eps
    return rehearse(twin, steps)
