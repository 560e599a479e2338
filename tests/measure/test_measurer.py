from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.measure.reference import slow_norm, slow_total
from torch import nn

from steadygrad.measure import PARAM_NORM_EVERY, Layout, Measurer, ParamTable, parameter_names
from steadygrad.records import TensorInfo

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


def measurer_of(model, *, late, param_norms=False):
    groups = [{"params": list(model.parameters()), "lr": 0.1, "momentum": 0.0}]
    table = ParamTable(parameter_names(model), groups)
    return Measurer(table, late=late, param_norms=param_norms), groups


def assert_truth(measurement, params, scale=1.0):
    grads = [p.grad for p in params]
    expected = [0.0 if g is None else slow_norm(g) / scale for g in grads]
    assert measurement.norms.tolist() == pytest.approx(expected, rel=1e-5, nan_ok=True)
    total = slow_total([g for g in grads if g is not None]) / scale
    assert float(measurement.total_norm) == pytest.approx(total, rel=1e-5, nan_ok=True)
    absent = np.zeros(len(params), bool) if measurement.absent is None else measurement.absent
    assert absent.tolist() == [g is None for g in grads]
    assert len(measurement.grads) == sum(g is not None for g in grads)


def mlp(width=3, depth=3):
    return nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])


def fill(params, value=1.0):
    for i, param in enumerate(params):
        param.grad = torch.full_like(param, value * (i + 1))


@both_paths
def test_all_gradients_present(late):
    model = mlp()
    measurer, groups = measurer_of(model, late=late)
    fill(model.parameters())
    measurement = measurer.measure(groups, None)
    assert measurement.present is None
    assert_truth(measurement, list(model.parameters()))


@both_paths
def test_no_gradient_at_all(late):
    model = mlp()
    measurer, groups = measurer_of(model, late=late)
    measurement = measurer.measure(groups, None)
    assert_truth(measurement, list(model.parameters()))
    assert measurement.absent.all()


@both_paths
def test_gradients_that_come_and_go_keep_their_positions(late):
    model = mlp()
    params = list(model.parameters())
    measurer, groups = measurer_of(model, late=late)
    for missing in [{1}, {0, 5}, set(), {2, 3, 4}, set(range(6)), {1}]:
        fill(params)
        for i in missing:
            params[i].grad = None
        measurement = measurer.measure(groups, None)
        assert_truth(measurement, params)
        if missing and len(missing) < 6:
            assert measurement.present.tolist() == [i for i in range(6) if i not in missing]
            assert measurement.of_present(torch.arange(6)).tolist() == measurement.present.tolist()


@both_paths
def test_many_tiny_gradients_that_come_and_go(late):
    model = nn.ParameterList([nn.Parameter(torch.ones(2 + i % 2)) for i in range(24)])
    params = list(model.parameters())
    measurer, groups = measurer_of(model, late=late)
    for missing in [set(), {3}, {4}, {3, 4, 5, 6}, {0, 23}, set()]:
        fill(params)
        for i in missing:
            params[i].grad = None
        assert_truth(measurer.measure(groups, None), params)


@both_paths
@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan])
def test_nonfinite_element_shows_in_its_tensor_and_in_the_total(late, poison):
    model = mlp()
    params = list(model.parameters())
    measurer, groups = measurer_of(model, late=late)
    fill(params)
    params[2].grad[1, 1] = poison
    assert_truth(measurer.measure(groups, None), params)


@both_paths
def test_norm_too_large_for_float32_is_finite(late):
    model = nn.Linear(100, 100)
    measurer, groups = measurer_of(model, late=late)
    for param in model.parameters():
        param.grad = torch.full_like(param, 1e37)
    measurement = measurer.measure(groups, None)
    assert_truth(measurement, list(model.parameters()))
    assert measurement.norms.dtype == torch.float64
    assert math.isfinite(float(measurement.total_norm))


@both_paths
def test_total_too_large_for_float32_of_norms_that_fit(late):
    model = mlp(3, 30)
    measurer, groups = measurer_of(model, late=late)
    for param in model.parameters():
        param.grad = torch.full_like(param, 1e38)
    assert_truth(measurer.measure(groups, None), list(model.parameters()))


@both_paths
@pytest.mark.parametrize("scale", [2.0**16, 2.0**-3, 1.0])
def test_loss_scale_is_taken_out_of_the_norms_but_not_of_the_gradients(late, scale):
    model = mlp()
    params = list(model.parameters())
    measurer, groups = measurer_of(model, late=late)
    fill(params, scale)
    measurement = measurer.measure(groups, torch.tensor(scale))
    assert_truth(measurement, params, scale)
    assert measurement.grads[0] is params[0].grad
    assert float(params[0].grad[0, 0]) == scale


@both_paths
def test_sparse_and_dense_gradients_side_by_side(late):
    model = nn.ModuleList([nn.Embedding(6, 3, sparse=True), nn.Linear(3, 1)])
    measurer, groups = measurer_of(model, late=late)
    for indices in ([0, 2, 2], [5], [1, 1, 1, 1]):
        model.zero_grad()
        model[1](model[0](torch.tensor(indices))).sum().backward()
        assert model[0].weight.grad.is_sparse
        measurement = measurer.measure(groups, None)
        assert_truth(measurement, list(model.parameters()))


@both_paths
def test_a_frozen_parameter_has_no_gradient_and_is_measured_once_unfrozen(late):
    model = mlp()
    params = list(model.parameters())
    params[0].requires_grad_(False)
    measurer, groups = measurer_of(model, late=late)
    model(torch.ones(2, 3)).sum().backward()
    assert_truth(measurer.measure(groups, None), params)
    params[0].requires_grad_(True)
    model(torch.ones(2, 3)).sum().backward()
    measurement = measurer.measure(groups, None)
    assert measurement.absent is None
    assert_truth(measurement, params)


@both_paths
def test_parameters_added_later_are_measured_from_then_on(late):
    model = mlp()
    params = list(model.parameters())
    groups = [{"params": params[:2], "lr": 0.1}]
    table = ParamTable(parameter_names(model), groups)
    measurer = Measurer(table, late=late, param_norms=True)
    fill(params)
    assert_truth(measurer.measure(groups, None), params[:2])
    groups.append({"params": params[2:], "lr": 0.5})
    table.extend(groups)
    measurer.grow()
    measurement = measurer.measure(groups, None)
    assert_truth(measurement, params)
    assert measurer.fresh_param_norms().tolist() == pytest.approx([slow_norm(p) for p in params])
    assert [group.lr for group in measurement.groups] == [0.1, 0.5]


@both_paths
def test_tied_weights_are_counted_once(late):
    model = nn.ModuleList([nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)])
    model[1].weight = model[0].weight
    measurer, groups = measurer_of(model, late=late)
    model[1](model[0](torch.tensor([1, 2]))).sum().backward()
    measurement = measurer.measure(groups, None)
    assert len(measurement.norms) == 1
    assert_truth(measurement, [model[0].weight])


@both_paths
def test_parameter_norms_are_refreshed_now_and_then(late):
    model = mlp()
    params = list(model.parameters())
    measurer, _ = measurer_of(model, late=late, param_norms=True)
    refreshed = []
    for step in range(2 * PARAM_NORM_EVERY + 1):
        with torch.no_grad():
            params[0].fill_(float(step + 1))
        norms = measurer.fresh_param_norms()
        if measurer.refreshed_param_norms:
            refreshed.append(step)
            assert norms.tolist() == pytest.approx([slow_norm(p) for p in params], rel=1e-5)
        assert norms is not None
    assert refreshed == [0, PARAM_NORM_EVERY, 2 * PARAM_NORM_EVERY]


@both_paths
def test_parameter_norms_cost_nothing_where_nobody_wants_them(late):
    measurer, _ = measurer_of(mlp(), late=late)
    assert measurer.fresh_param_norms() is None


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.sampled_from([None, 0.0, 1e-30, 1.0, 1e25, 3e38, math.inf, math.nan]), min_size=1, max_size=25
    ),
    st.booleans(),
)
def test_any_mixture_equals_the_slow_truth(fills, late):
    model = nn.ParameterList([nn.Parameter(torch.ones(i % 4 + 1)) for i in range(len(fills))])
    measurer, groups = measurer_of(model, late=late)
    for param, value in zip(model.parameters(), fills, strict=True):
        param.grad = None if value is None else torch.full_like(param, value)
    assert_truth(measurer.measure(groups, None), list(model.parameters()))


def test_plans_of_recurring_patterns_are_kept_and_bounded():
    params = [nn.Parameter(torch.ones(i % 3 + 1)) for i in range(24)]
    model = nn.ParameterList(params)
    measurer, groups = measurer_of(model, late=False)
    for missing in [set(), {1}, set(), {1}, *({i} for i in range(24)), {1}]:
        fill(params)
        for i in missing:
            params[i].grad = None
        assert_truth(measurer.measure(groups, None), params)
        assert len(measurer._plans) <= 8


def test_a_pattern_that_comes_back_is_not_planned_again():
    model = mlp()
    params = list(model.parameters())
    measurer, groups = measurer_of(model, late=False)
    plans = []
    for missing in [{1}, {2}, {1}, {2}]:
        fill(params)
        for i in missing:
            params[i].grad = None
        measurer.measure(groups, None)
        plans.append(list(measurer._plans.values())[-1])
    assert plans[0] is plans[2]
    assert plans[1] is plans[3]


@both_paths
def test_an_uninitialised_parameter_has_norm_zero_until_it_is_used(late):
    model = nn.ModuleList([nn.Linear(2, 2), nn.LazyLinear(3)])
    measurer, groups = measurer_of(model, late=late, param_norms=True)
    model[0](torch.ones(1, 2)).sum().backward()
    norms = measurer.fresh_param_norms().tolist()
    assert norms == pytest.approx([slow_norm(model[0].weight), slow_norm(model[0].bias), 0.0, 0.0])
    model[1](torch.ones(1, 4)).sum().backward()
    for _ in range(PARAM_NORM_EVERY):
        norms = measurer.fresh_param_norms().tolist()
    assert norms == pytest.approx([slow_norm(param) for param in model.parameters()])
    assert_truth(measurer.measure(groups, None), list(model.parameters()))


def test_what_is_wide_is_asked_once_and_not_at_every_step(monkeypatch):
    model = mlp().double()
    measurer, groups = measurer_of(model, late=True)
    fill(model.parameters(), 1e200)
    monkeypatch.setattr("steadygrad.measure.measurer.holds_long", None)
    assert_truth(measurer.measure(groups, None), list(model.parameters()))


def test_a_float64_parameter_that_joins_is_measured_as_one():
    model = nn.ModuleList([nn.Linear(2, 2)])
    groups = [{"params": list(model.parameters()), "lr": 0.1, "momentum": 0.0}]
    table = ParamTable(parameter_names(model), groups)
    measurer = Measurer(table, late=True, param_norms=False)
    model.append(nn.Linear(2, 2).double())
    groups.append({"params": list(model[1].parameters()), "lr": 0.1, "momentum": 0.0})
    table.extend(groups)
    measurer.grow()
    fill(model[0].parameters())
    fill(model[1].parameters(), 1e200)
    assert_truth(measurer.measure(groups, None), list(model.parameters()))


@pytest.mark.parametrize("held", [0, 1])
def test_every_rank_takes_the_total_for_wide_where_one_holds_float64(held):
    params = [torch.zeros(3, dtype=torch.float64), torch.zeros(3)]
    infos = [TensorInfo(f"w{i}", (3,), str(p.dtype).removeprefix("torch.")) for i, p in enumerate(params)]
    table = ParamTable({}, [{"params": [params[held]], "lr": 0.1, "momentum": 0.0}])
    here = np.array([held == 0, held == 1])
    table.lay_out(Layout(infos, [held], [0, 0], here.astype(np.float64), np.zeros(2, np.float32), ~here))
    measurer = Measurer(table, late=True, param_norms=False)
    assert float(measurer._late_total(torch.full((2,), 1e200, dtype=torch.float64))) < math.inf
