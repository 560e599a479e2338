from __future__ import annotations

import pytest

from steadygrad.measure.probe import PROBE_SHARE, Budget
from steadygrad.measure.spending import LEAST_ROOM, RARE_SHARE, Spending
from steadygrad.recover.keeper import SNAPSHOT_SHARE

STEP_S = 0.1
COST_S = 0.005


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def trained(everyday, steps=20_000, overhead=0.02):
    """Share of the time spent in all, and steps between two copies, where each step costs a share of itself."""
    clock = Clock()
    spending = Spending(clock)
    budgets = [Budget(overhead, share, spending) for share in (SNAPSHOT_SHARE, PROBE_SHARE, PROBE_SHARE)]
    copies = []
    for step in range(steps):
        clock.now += STEP_S
        spending.step_ended()
        spending.spent_s += everyday * STEP_S
        for budget in budgets:
            if budget.due(step):
                copies += [step] * (budget is budgets[0])
                spending.spent_s += COST_S
                budget.paid(step, COST_S)
    return spending.spent_s / clock.now, (copies[-1] - copies[-11]) / 10


def test_the_shares_of_what_is_rare_are_those_of_its_budgets():
    assert pytest.approx(RARE_SHARE) == SNAPSHOT_SHARE + 2 * PROBE_SHARE


@pytest.mark.parametrize("everyday", [0.0, 0.008, 0.012, 0.014, 0.018])
def test_the_mean_stays_within_the_overhead(everyday):
    share, _ = trained(everyday)
    assert share <= 0.0202


def test_what_is_rare_is_spaced_wider_where_each_step_costs_more():
    (_, cheap), (_, dear), (_, hopeless) = trained(0.004), trained(0.016), trained(0.1)
    assert cheap == pytest.approx(13, abs=4)
    assert dear == pytest.approx(2 * cheap, rel=0.5)
    assert hopeless <= cheap / LEAST_ROOM * 1.2


def test_only_the_time_of_the_training_itself_earns_anything():
    def made(pause_s, *, heard=True):
        clock = Clock()
        spending = Spending(clock)
        budget, steps = Budget(0.02, 0.1, spending), []
        for step in range(5_000):
            clock.now += pause_s  # an evaluation, or another training's turn
            if heard:
                spending.forward()
            clock.now += STEP_S
            if heard:
                spending.forward()  # a second micro-batch
            if budget.due(step):
                steps.append(step)
                budget.paid(step, 4 * COST_S)
            spending.step_ended()
        return steps

    alone = len(made(0.0))
    assert len(made(10 * STEP_S)) == pytest.approx(len(made(STEP_S)), abs=1)
    assert alone < len(made(STEP_S)) < len(made(10 * STEP_S, heard=False))  # which come as often as may be


@pytest.mark.parametrize("heard", [True, False])
def test_an_evaluation_that_records_gradients_counts_as_a_step_at_most(heard):
    clock = Clock()
    spending = Spending(clock)
    for _ in range(10):
        for _ in range(10):
            spending.forward()
            clock.now += STEP_S
            spending.step_ended()
        if heard:
            spending.forward()
        clock.now += 1000.0 * STEP_S
        spending.step_ended()
    assert 100 * STEP_S <= spending.trained() <= 130 * STEP_S


def test_steps_that_have_become_longer_are_followed():
    clock = Clock()
    spending = Spending(clock)
    for length in (1.0, 100.0):
        for _ in range(100):
            spending.forward()
            clock.now += length
            spending.step_ended()
    assert spending.trained() == pytest.approx(100 + 100 * 100, rel=0.07)
