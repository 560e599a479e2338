"""What SGD's momentum can hold is bounded by the gradients that went in."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import steadygrad as sg
from steadygrad.detect import over
from steadygrad.measure import heavy_ball


def probed(stream, moved, norms=1.0, steps=12, lr=0.1):
    readings = stream(np.full((steps, 2), norms), lr=lr)
    for step, length in moved.items():
        weights, change = np.full(2, 5.0), np.full(2, 1e-6)
        change[0] = length
        readings[step] = replace(readings[step], param_norms=weights, update_norms=change)
    return readings


def found(readings, context, **more):
    told = over(readings, context(2, momentum=0.9, **more))
    return [f for f in told if f.kind == "optimizer_state_corrupt"]


@pytest.mark.parametrize(("moved", "count"), [(0.5, 0), (5.0, 0), (9.0, 1), (1e9, 1)])
def test_a_step_ten_times_beyond_the_geometric_sum_is_told(stream, context, moved, count):
    # After 9 gradients of norm 1 the buffer holds at most 6.1, and the step is 0.1 of it and of one gradient more.
    told = found(probed(stream, {0: 0.1, 8: moved}), context)
    assert len(told) == count
    assert all((f.severity, f.step, f.where) == ("error", 8, ("layer0.weight",)) for f in told)


def test_without_momentum_or_for_other_optimizers_there_is_no_bound(stream, context):
    readings = probed(stream, {0: 0.1, 8: 1e9})
    assert not [f for f in over(readings, context(2)) if f.kind == "optimizer_state_corrupt"]
    assert heavy_ball([{"lr": 0.1, "momentum": 0.0, "nesterov": False, "dampening": 0}]) is None
    assert heavy_ball([{"lr": 0.1, "betas": (0.9, 0.999), "amsgrad": False}]) is None


def test_buffers_from_before_the_run_are_learnt_from_the_first_measured_step(stream, context):
    assert not found(probed(stream, {0: 1e4, 1: 9e3, 2: 8e3}, norms=1e-3), context)


def test_decay_is_allowed_for(stream, context):
    assert not found(probed(stream, {0: 0.1, 8: 9.0}), context, weight_decay=1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_after_a_nonfinite_gradient_nothing_is_claimed(stream, context, bad):
    readings = probed(stream, {0: 0.1, 8: 1e9})
    norms = np.array([bad, 1.0])
    readings[4] = replace(readings[4], norms=norms, total_norm=bad)
    assert not found(readings, context)
    readings[4] = replace(readings[4], skipped=True)  # it never went in
    assert len(found(readings, context)) == 1


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40),
    st.sampled_from([(0.9, True, 0.0), (0.5, False, 0.0), (0.99, False, 0.0), (0.9, False, 0.1)]),
)
@settings(deadline=None, max_examples=40)
def test_torchs_own_sgd_stays_inside(gradients, options):
    momentum, nesterov, decay = options
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], 1.0, momentum, nesterov=nesterov, weight_decay=decay)
    bound, longest = 0.0, 0.0
    for gradient in gradients:
        before = weight.detach().clone()
        longest = max(longest, float(before.abs()))
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        bound = momentum * bound + abs(gradient)
        allowed = bound + abs(gradient) + decay * longest / (1 - momentum)
        assert float((weight.detach() - before).abs()) <= allowed * (1 + 1e-9) + 1e-12


def test_a_flipped_bit_in_a_real_buffer_is_told_at_a_measured_step():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    inputs, targets = torch.randn(32, 8), torch.randn(32, 1)
    with sg.watch(model, optimizer) as watch:
        for step in range(20):
            optimizer.zero_grad()
            (model(inputs) - targets).square().mean().backward()
            if step == 16:
                optimizer.state[model[0].weight]["momentum_buffer"][3, 5] = 1e6
            optimizer.step()
        (told,) = [one for one in watch.findings if one.kind == "optimizer_state_corrupt"]
    assert (told.step, told.where) == (16, ("0.weight",))
