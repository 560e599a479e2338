"""Does a training train: three hundred steps on batches that change."""

from __future__ import annotations

import math

import torch

from benchmarks.remedies.training import Training
from steadygrad.calling import call_model
from steadygrad.checkup.reach import best_constant
from steadygrad.checkup.rehearsal import Setup
from steadygrad.checkup.remedies import Plan

STEPS = 300
LEARNT = 0.6
"""Share of the loss of the best constant guess that a training has to fall below."""


def guess(training: Training) -> float:
    """Loss of the best constant guess on all rows."""
    rows = torch.arange(_count(training))
    output = call_model(training.model, training.batch(rows))
    loss_fn = training.loss_fn(rows)
    assert loss_fn is not None
    return best_constant(lambda out: loss_fn(out.to(output.dtype)), output.detach().float()).loss


def _count(training: Training) -> int:
    return len(training.inputs)


def trains(training: Training, plan: Plan | None, steps: int = STEPS, seed: int = 0) -> tuple[bool, float]:
    """Whether a training, with a remedy applied to it, comes well below a constant guess.

    Returns:
        The verdict, and the share of the guess's loss that is left.
    """
    assert training.optimizer is not None
    bound = guess(training)
    setup = Setup(training.model, training.optimizer, training.batch(), training.loss_fn())
    if plan is not None:
        plan.apply(setup)
    generator = torch.Generator().manual_seed(seed)
    count = _count(training)
    with setup.running():
        for step in range(steps):
            rows = torch.randint(0, count, (training.rows,), generator=generator)
            try:
                setup.step(training.batch(rows), training.loss_fn(rows), step)
            except Exception:  # noqa: BLE001 - a guard that gives up is a training that failed
                return False, math.inf
    rows = torch.arange(count)
    with torch.no_grad():
        left = float(setup.loss(training.batch(rows), training.loss_fn(rows)))
    share = left / bound if bound > 0 else math.inf
    return math.isfinite(share) and share < LEARNT, share
