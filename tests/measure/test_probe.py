from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from steadygrad.measure import Budget, Spending, UpdateProbe
from steadygrad.measure.probe import EARLY_STEPS, MIN_SPACING, SAMPLE_NUMEL


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def probes_over(steps, step_s, cost_s, overhead):
    clock = Clock()
    spending = Spending(clock)
    budget, made = Budget(overhead, spending=spending), []
    for step in range(steps):
        clock.now_s += step_s
        spending.step_ended()
        if budget.due(step):
            made.append(step)
            budget.paid(step, cost_s)
    return made


@pytest.mark.parametrize("cost_s", [1e-5, 1e-3, 0.1])
@pytest.mark.parametrize("overhead", [0.02, 0.2])
def test_probes_stay_within_a_share_of_the_training_time(cost_s, overhead):
    steps, step_s = 20_000, 0.01
    made = probes_over(steps, step_s, cost_s, overhead)
    assert made
    assert (len(made) - 1) * cost_s <= overhead * steps * step_s


def test_cheap_probes_keep_their_least_spacing():
    made = [step for step in probes_over(500, 0.01, 0.0, 0.02) if step >= EARLY_STEPS]
    assert {b - a for a, b in pairwise(made)} == {MIN_SPACING}


@pytest.mark.parametrize("cost_s", [0.0, 1e-3, 10.0])
def test_the_first_probes_come_at_doubling_spacing_whatever_they_cost(cost_s):
    made = probes_over(EARLY_STEPS + 1, 0.01, cost_s, 0.02)
    assert made == [0, 1, 2, 4, 8, 16, 32, 64, 128]


def test_early_probes_are_paid_off_before_the_next():
    step_s, cost_s, share = 0.01, 1e-3, 0.02 * 0.1
    later = [step for step in probes_over(20_000, step_s, cost_s, 0.02) if step > EARLY_STEPS]
    assert later[0] == pytest.approx(9 * cost_s / (share * step_s), rel=0.03)


def test_a_run_that_goes_on_begins_with_early_probes_too():
    clock = Clock()
    spending = Spending(clock)
    budget, made = Budget(0.02, spending=spending), []
    for step in range(1000, 1010):
        clock.now_s += 0.01
        spending.step_ended()
        if budget.due(step):
            made.append(step)
            budget.paid(step, 1e-3)
    assert made == [1000, 1001, 1002, 1004, 1008]


def test_no_overhead_allowed_means_no_probe():
    assert probes_over(500, 0.01, 0.0, 0.0) == []


def test_a_clock_that_stands_still_does_not_divide_by_zero():
    made = [step for step in probes_over(500, 0.0, 1.0, 0.02) if step >= EARLY_STEPS]
    assert min(b - a for a, b in pairwise(made)) >= MIN_SPACING


SMALL = [
    torch.randn(3, 4),
    torch.randn(()),
    torch.empty(0),
    torch.randn(5, dtype=torch.float64),
    torch.randn(5).to(torch.bfloat16),
    torch.randn(4, dtype=torch.complex64),
    torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    torch.randn(6, 4).t(),
]


def test_update_norms_of_every_kind_equal_the_difference():
    probe, params = UpdateProbe(), [torch.nn.Parameter(value.clone()) for value in SMALL]
    probe.open(params)
    with torch.no_grad():
        for param in params:
            param.add_(0.5)
    norms = probe.close(params)
    expected = [0.5 * param.numel() ** 0.5 for param in params]
    assert norms.tolist() == pytest.approx(expected, rel=1e-2)
    assert norms.dtype == torch.float32


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed"])
def test_a_large_tensor_is_sampled_to_within_a_few_percent(layout):
    value = torch.randn(64, 32, 8, 8)
    value = value.to(memory_format=torch.channels_last) if layout == "channels_last" else value
    value = value.reshape(512, 256).t() if layout == "transposed" else value
    update = torch.randn_like(value)
    assert value.numel() > 4 * SAMPLE_NUMEL
    probe = UpdateProbe()
    probe.open([value])
    value.add_(update)
    assert float(probe.close([value])[0]) == pytest.approx(float(update.norm()), rel=0.05)


def test_nonfinite_update_is_reported_as_such():
    probe, param = UpdateProbe(), torch.zeros(3)
    probe.open([param])
    param[1] = float("inf")
    assert probe.close([param])[0] == float("inf")
    probe.open([param])
    assert probe.close([param])[0].isnan()


def test_closing_without_opening_or_after_growth_gives_none():
    probe = UpdateProbe()
    assert probe.close([torch.ones(2)]) is None
    probe.open([torch.ones(2)])
    assert probe.close([torch.ones(2), torch.ones(2)]) is None
    assert probe.close([torch.ones(2)]) is None


def test_a_parameter_that_takes_its_shape_during_the_step_counts_as_unchanged():
    model = nn.ModuleList([nn.LazyLinear(2), nn.LazyLinear(3)])
    params = list(model.parameters())
    probe = UpdateProbe()
    probe.open(params)
    model[0](torch.ones(1, 4))
    assert probe.close(params).tolist() == [0.0] * 4


def test_what_is_spent_beside_the_probes_counts():
    clock = Clock()
    spending = Spending(clock)
    budget, made = Budget(0.02, spending=spending), []
    budget.spent_s += 0.5
    for step in range(40_000):
        clock.now_s += 0.01
        spending.step_ended()
        if budget.due(step):
            made.append(step)
            budget.paid(step, 0.0)
    # 0.5 s are a share of 0.002 of 250 s.
    assert next(step for step in made if step > EARLY_STEPS) == pytest.approx(25_000, rel=0.01)
