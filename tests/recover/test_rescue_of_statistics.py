"""Running statistics that a batch has ruined are mended in the training they belong to."""

from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.workloads import MODELS, poisoned
from tests.recover.runs import FAULT_AT, Run, both_paths
from torch import nn


@both_paths
@pytest.mark.parametrize("at", [0, FAULT_AT])
def test_a_bad_batch_doesnt_stay_in_the_statistics_of_batch_norm(at, late):
    run = Run(MODELS["CNN"], late=late)
    run.go(at)
    run.go(1, poisoned)
    run.go(20)
    assert run.is_finite()
    assert (run.guard.counts.repairs, run.guard.counts.rollbacks) == (1, 0)


@both_paths
def test_statistics_that_are_ruined_without_a_bad_step_are_found_too(late):
    run = Run(MODELS["CNN"], late=late)
    run.go(FAULT_AT)
    run.model.body[1].running_var.fill_(math.nan)
    run.go(25)
    assert run.is_finite()
    assert run.guard.counts.rollbacks == 0


def test_a_moving_average_that_is_updated_after_the_step_never_sees_them():
    run = Run(MODELS["CNN"])
    average = torch.optim.swa_utils.AveragedModel(run.model, use_buffers=True)
    for turn in (lambda batch: batch, poisoned, lambda batch: batch):
        run.go(1, turn)
        average.update_parameters(run.model)
    assert run.guard.counts.skipped == 1
    assert all(one.isfinite().all() for one in average.state_dict().values())


def test_what_is_not_finite_from_the_start_is_meant_to_be():
    class Masked(nn.Linear):
        def __init__(self):
            super().__init__(6, 1)
            self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))

    run = Run(Masked)
    run.go(60)
    assert run.guard.counts.repairs == run.guard.counts.rollbacks == 0
    assert run.model.mask.isinf().any()


def test_a_batch_of_huge_inputs_doesnt_stay_in_the_statistics_of_batch_norm():
    run = Run(MODELS["CNN"])
    run.go(100)
    usual = {name: one.clone() for name, one in run.model.named_buffers() if "running_var" in name}
    run.go(1, lambda batch: (batch[0] * 1e6, batch[1]))
    run.go(12)
    assert run.rescue.repairs == 1
    for name, one in run.model.named_buffers():
        if name in usual:
            assert float((one / usual[name]).max()) < 10.0
