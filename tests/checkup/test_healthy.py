"""Nothing to say about healthy trainings of many kinds."""

from __future__ import annotations

import pytest
import torch
from benchmarks.remedies.healthy import HEALTHY
from torch import nn

import steadygrad as sg


@pytest.mark.parametrize("name", HEALTHY)
def test_no_alarm(name):
    training = HEALTHY[name]()
    found = training.check()
    assert [finding for finding in found.findings if finding.severity != "info"] == []
    assert found.ok
    assert found.notes == ()
    assert torch.isfinite(torch.tensor(found.loss))


def test_the_zoo_is_large_enough_to_mean_something():
    assert len(HEALTHY) >= 60


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_the_length_of_a_step_of_lbfgs_is_no_fault(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    batch = torch.randn(32, 4)
    assert sg.check(model, batch, lambda out: out.square().mean(), torch.optim.LBFGS(model.parameters())).ok
