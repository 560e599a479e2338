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
from steadygrad.measure import step_bound


def probed(stream, moved, *, lr=1e-3, lengths=(8.0, 8.0)):
    readings = stream(np.ones((3, 2)), lr=lr)
    readings[1] = replace(readings[1], param_norms=np.array(lengths), update_norms=np.array(moved))
    return readings


def found(readings, context):
    return [f for f in over(readings, context) if f.kind == "optimizer_state_corrupt"]


@pytest.mark.parametrize(("moved", "count"), [(0.05, 0), (0.5, 0), (0.7, 1), (50.0, 1)])
def test_a_step_beyond_ten_times_the_bound_is_told(stream, context, moved, count):
    told = found(probed(stream, [moved, 1e-3]), context(2, step_bound=7.27))  # 10 * 1e-3 * 7.27 * 8 = 0.58
    assert len(told) == count
    assert all((f.severity, f.step, f.where) == ("error", 1, ("layer0.weight",)) for f in told)


def test_decay_is_allowed_for_and_no_bound_means_silence(stream, context):
    assert not found(probed(stream, [5.0, 0.1]), context(2, step_bound=7.27, weight_decay=60.0))
    assert not found(probed(stream, [5.0, 0.1]), context(2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_step_of_sound_numbers_is_told_without_a_bound(stream, context, bad):
    (finding,) = found(probed(stream, [1e-3, bad]), context(2))
    assert finding.where == ("layer1.weight",)
    assert not found(probed(stream, [1e-3, bad], lengths=(8.0, bad)), context(2))
    assert not found(probed(stream, [1e-3, bad], lengths=(8.0, bad)), context(2, step_bound=7.27))


@pytest.mark.parametrize("own", [True, False])
def test_who_divides_by_0_in_an_optimizer_of_his_own_is_told_so(stream, context, own):
    (told,) = found(probed(stream, [math.nan, 0.1]), context(2, own_step=own))
    assert ("divides by 0" in told.summary) is own
    assert ("eps" in told.remedies[0].code) is own


def test_sgd_whose_momentum_is_broken_is_told_no_division_of_its_own():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    with sg.watch(model, optimizer) as monitor:
        for step in range(3):
            if step == 2:
                optimizer.state[model[0].weight]["momentum_buffer"][0, 0] = math.inf
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().mean().backward()
            optimizer.step()
    (told,) = [one for one in monitor.findings if one.kind == "optimizer_state_corrupt"]
    assert "divides" not in told.summary + "".join(told.causes)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_no_step_can_take_is_no_fault_of_the_state(stream, context, bad):
    readings = probed(stream, [1e-3, bad])
    readings[1] = replace(readings[1], norms=np.array([1.0, 1e30]), total_norm=1e30)
    assert not found(readings, context(2))


def test_one_bad_gradient_that_a_clip_has_spread_is_no_fault_of_the_state(stream, context):
    readings = probed(stream, [math.nan, math.nan])
    readings[1] = replace(readings[1], norms=np.array([1.0, math.nan]), total_norm=math.nan)
    assert not found(readings, context(2))


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40),
    st.sampled_from([(0.9, 0.999), (0.9, 0.95), (0.0, 0.9), (0.5, 0.999)]),
)
@settings(deadline=None, max_examples=60)
def test_adam_stays_inside_its_bound(gradients, betas):
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=1.0, betas=betas, eps=1e-30)
    for gradient in gradients:
        before = weight.detach().clone()
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        assert float((weight.detach() - before).abs()) <= step_bound(optimizer.param_groups) * (1 + 1e-6)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.sampled_from([0.0, 0.9]))
@settings(deadline=None, max_examples=60)
def test_rmsprop_stays_inside_its_bound(gradients, momentum):
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.RMSprop([weight], lr=1.0, momentum=momentum, eps=1e-30)
    for gradient in gradients:
        before = weight.detach().clone()
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        assert float((weight.detach() - before).abs()) <= step_bound(optimizer.param_groups) * (1 + 1e-6)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adagrad])
def test_others_have_no_bound(make):
    assert step_bound(make([nn.Parameter(torch.zeros(1))], lr=0.1).param_groups) is None
    assert step_bound([{"betas": (0.99, 0.9), "amsgrad": False, "capturable": False}]) is None
    assert step_bound([]) is None


def test_a_state_that_belongs_to_another_run_is_found_when_it_is_loaded():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    model(torch.randn(16, 8)).mean().backward()
    optimizer.step()
    for state in optimizer.state.values():
        state["exp_avg_sq"].fill_(1e-20)
        state["exp_avg"].fill_(1.0)
        state["step"].fill_(1000)
    with sg.watch(model, optimizer) as monitor:
        optimizer.zero_grad()
        (1e-6 * model(torch.randn(16, 8)).mean()).backward()
        optimizer.step()
    assert [f.kind for f in monitor.findings if f.severity == "error"] == ["optimizer_state_corrupt"]
