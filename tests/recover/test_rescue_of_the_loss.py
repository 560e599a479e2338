"""A loss that has left its course is a reason to go back; a spike and a new level are none."""

from __future__ import annotations

import math

import pytest
import torch
from tests.recover.runs import Run, both_paths


@both_paths
def test_a_loss_that_has_left_its_course(late):
    """Large finite weights: no NaN anywhere, and nothing that a clip could mend."""
    run = Run(late=late, log=True)
    usual = max(run.go(100)[-20:])
    for param in run.model.parameters():
        param.data.mul_(-3.0)
    run.optimizer.param_groups[0]["lr"] = 0.0
    run.go(20)
    assert run.guard.counts.rollbacks == 1
    assert max(run.go(20)) < 2 * usual


@both_paths
@pytest.mark.parametrize("height", [30.0, math.nan])
def test_one_spike_is_no_reason(height, late):
    run = Run(late=late, log=True)
    run.go(100)
    run.go(1, lambda batch: (batch[0], batch[1] * height))
    run.go(100)
    assert run.guard.counts.rollbacks == 0


@both_paths
def test_a_new_level_of_the_loss_is_accepted_after_two_tries(late):
    run = Run(late=late, log=True)
    run.go(100)
    run.go(300, lambda batch: (batch[0], batch[1] + 30 * torch.randn_like(batch[1])))
    assert run.guard.counts.rollbacks == 2
    rejected = run.rescue.snapshots
    run.go(60, lambda batch: (batch[0], batch[1] + 30 * torch.randn_like(batch[1])))
    assert run.rescue.snapshots > rejected


def test_outliers_in_half_of_the_batches_cost_two_rollbacks_at_most_and_never_the_run():
    run = Run(log=True)
    run.go(100)
    odd = iter(range(1000))
    run.go(300, lambda batch: (batch[0], batch[1] * (1 + 30 * (next(odd) % 2))))
    assert run.guard.counts.rollbacks <= 2


def test_rollbacks_that_were_no_use_are_undone(capfd):
    run = Run(name="SGD momentum", log=True)
    run.go(150)
    run.go(60, lambda batch: (batch[0], batch[1] + 30.0))
    assert "the weights from before the rollback are back" in capfd.readouterr().err
    assert 1 <= run.rescue.rollbacks <= 2
