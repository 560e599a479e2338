from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.streams import patient

from steadygrad.policies.ceiling import LEAP, RateCeiling

RATES = st.lists(st.tuples(st.floats(1e-9, 1e3), st.sampled_from([1.0, 0.5])), max_size=120)


def slow_factor(history, lr):
    """The same from the whole history of rates and factors."""
    ceiling = LEAP * max((rate * factor for rate, factor in history[:-16]), default=0.0)
    if len(history) < 32 or not lr > ceiling > 0.0:
        return 1.0
    newest, factor = history[-1]
    return 1.0 if factor == 1.0 and lr <= 2.0 * newest else ceiling / lr


@patient
@given(RATES, st.floats(1e-9, 1e3))
def test_the_ceiling_is_ten_times_the_largest_older_rate(rates, lr):
    ceiling = RateCeiling()
    for rate, factor in rates:
        ceiling.add(rate, factor)
    assert ceiling.factor(lr) == pytest.approx(slow_factor(rates, lr))


def made(plan, steps):
    """Factors of a schedule, each step made with the rate that was allowed."""
    ceiling, factors = RateCeiling(), []
    for step in range(steps):
        factors.append(ceiling.factor(plan(step)))
        ceiling.add(plan(step), factors[-1])
    return factors


@pytest.mark.parametrize(
    "plan",
    [
        lambda step: min(1.0, step / 1000),
        lambda step: min(1.0, (step + 1) / 40),
        lambda step: 0.1 if step < 400 else 1.0,
        lambda step: 1e-3 * 1.07**step,
        lambda step: 1e-7 * 1.25 ** min(step, 99),
        lambda step: (step % 100) / 100,
        lambda step: 0.1 ** (step // 100),
    ],
    ids=[
        "warm-up from zero",
        "short warm-up",
        "a tenfold rise",
        "slow range test",
        "range test",
        "restarts",
        "decay",
    ],
)
def test_schedules_that_people_use_are_left_alone(plan):
    assert set(made(plan, 300)) == {1.0}


def test_a_bug_of_a_few_steps_is_held_and_a_rise_that_lasts_is_followed():
    assert made(lambda step: 100.0 if 200 <= step < 205 else 1.0, 300)[200:205] == pytest.approx([0.1] * 5)
    lasting = made(lambda step: 1.0 if step < 200 else 1000.0, 300)
    assert lasting[200] == pytest.approx(0.01)
    assert lasting[264:] == [1.0] * 36


def test_a_restored_ceiling_goes_on_as_the_original():
    original, restored = RateCeiling(), RateCeiling()
    for step in range(50):
        original.add(float(step))
    restored.load_state_dict(json.loads(json.dumps(original.state_dict())))
    for lr in (1.0, 1e3):
        assert restored.factor(lr) == original.factor(lr)
