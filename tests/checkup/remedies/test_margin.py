"""A trial at a few times the rate, whoever sets the rate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygrad.checkup.rehearsal import copied, rehearse
from steadygrad.checkup.remedies.margin import MARGIN, hurry


def setup(lr):
    torch.manual_seed(0)
    model, x = nn.Linear(4, 1), torch.randn(16, 4)
    return copied(model, torch.optim.SGD(model.parameters(), lr), x, lambda out: (out - 1).square().mean())


def test_it_goes_as_a_rate_that_is_higher():
    fast, slow = setup(0.03), setup(0.03 * MARGIN)
    hurry(fast)
    assert rehearse(fast, 10).losses == pytest.approx(rehearse(slow, 10).losses)


def test_a_schedule_is_followed_at_a_distance():
    def warm(one, number):
        for group in one.optimizer.param_groups:
            group["lr"] = 0.01 * (number + 1)

    def warm_fast(one, number):
        warm(one, number)
        for group in one.optimizer.param_groups:
            group["lr"] *= MARGIN

    first, second = setup(0.01), setup(0.01)
    first.before_step.append(warm)
    hurry(first)
    second.before_step.append(warm_fast)
    assert rehearse(first, 5).losses == pytest.approx(rehearse(second, 5).losses)


def test_a_step_that_is_never_made_leaves_the_rate():
    one = setup(0.03)
    hurry(one)
    assert one.optimizer.param_groups[0]["lr"] == 0.03
