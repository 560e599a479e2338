"""A guard before the loop's own clip: it judges the step that is going to be made."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.attachment import Monitor
from steadygrad.policies import auto, autoclip, clip_norm

OWN = 1.0


def trained(policy, *, steps=1, late=False, told=True, scale=100.0):
    """Weights, and the monitor, of a loop that clips to `OWN` after the guard has looked."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = None
    if policy is not None:
        monitor = Monitor(
            "guard", model, [optimizer], policy, run=None, max_skips=None, overhead=0.0, late=late
        )
    for _ in range(steps):
        optimizer.zero_grad()
        (scale * model(torch.randn(8, 4)).square().mean()).backward()
        if monitor is not None:
            monitor.clip_(max_norm=OWN if told else None)
        torch.nn.utils.clip_grad_norm_(model.parameters(), OWN)
        optimizer.step()
    return model, optimizer, monitor


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("policy", [clip_norm(1.5), auto(), autoclip(90.0)])
def test_what_the_loops_clip_holds_is_held_once(policy, late):
    plain, _, _ = trained(None, steps=40)
    guarded, _, monitor = trained(policy, steps=40, late=late)
    assert torch.equal(guarded.weight, plain.weight)
    assert monitor.counts.clipped == 0
    assert monitor.last.total_norm > 2 * OWN  # as it came


@pytest.mark.parametrize("late", [False, True])
def test_a_stricter_policy_holds_more(late):
    model, _, monitor = trained(clip_norm(0.25), late=late)
    assert math.hypot(*(p.grad.norm().item() for p in model.parameters())) == pytest.approx(0.25, rel=1e-4)
    assert monitor.last.clip_coef == pytest.approx(0.25 / monitor.last.total_norm, rel=1e-4)


def test_without_the_word_the_norm_as_it_came_counts():
    _, _, monitor = trained(clip_norm(1.5), told=False)
    assert monitor.counts.clipped == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_poisoned_step_is_left_out_all_the_same(bad):
    plain, _, _ = trained(clip_norm(1.5), steps=0)
    guarded, _, monitor = trained(clip_norm(1.5), steps=1, scale=bad)
    assert monitor.counts.skipped == 1
    assert torch.equal(guarded.weight, plain.weight)


def test_the_policy_learns_what_it_was_shown():
    _, _, monitor = trained(autoclip(50.0), steps=10)
    assert monitor.policy.cap == pytest.approx(OWN)
    with sg.guard(nn.Linear(2, 1)) as other:
        assert other.clip_(max_norm=OWN).item() == 0.0
