from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.detect.growth import (
    growth_per_step,
    leaders,
    level_and_spread,
    log_total_norm,
    middle,
    ratio,
    slope,
)
from steadygrad.records import Reading

values = st.lists(st.floats(-700, 700), min_size=2, max_size=40)


@given(values)
def test_slope_is_the_least_squares_line(series):
    truth = np.polyfit(np.arange(len(series)), series, 1)[0]
    assert slope(series) == pytest.approx(truth, abs=1e-8)


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=41))
def test_middle_is_the_median_of_an_odd_number(series):
    assert middle(series) in series
    if len(series) % 2:
        assert middle(series) == np.median(series)


def test_spread_estimates_a_standard_deviation_in_spite_of_outliers():
    series = np.random.default_rng(0).normal(2.0, 0.5, size=4001)
    series[:800] = 50.0
    level, spread = level_and_spread(series.tolist())
    assert level == pytest.approx(2.16, abs=0.05)
    assert 0.4 < spread < 0.8


def test_growth_of_few_readings_and_of_an_overflow_is_finite():
    assert growth_per_step([]) == growth_per_step([3.0]) == 1.0
    assert math.isfinite(ratio(1e9))


@pytest.mark.parametrize("total", [0.0, math.nan, -0.0])
def test_no_log_of_what_is_no_norm(total):
    assert log_total_norm(Reading(0, np.array([total]), total)) is None


def test_an_inf_total_is_computed_again_only_over_finite_norms():
    norms = np.array([3e200, 4e200])
    assert log_total_norm(Reading(0, norms, math.inf)) == pytest.approx(math.log(5e200))
    assert log_total_norm(Reading(0, np.array([1.0, math.inf]), math.inf)) is None
    assert log_total_norm(Reading(0, np.zeros(2), math.inf)) is None


def test_leaders_are_those_that_rose_most_among_those_that_matter():
    history = [np.array([1.0, 10.0, 1e-6, 1.0])] * 3
    norms = np.array([100.0, 100.0, 1e-2, 1.0])
    order, share = leaders(norms, history)
    assert order == [0, 1]
    assert share.sum() == pytest.approx(1.0)


def test_leaders_without_history_are_the_largest():
    order, _ = leaders(np.array([1.0, 5.0, 3.0]), [])
    assert order == [1, 2, 0]


def test_a_tensor_that_had_no_gradient_and_now_leads_comes_first():
    order, _ = leaders(np.array([50.0, 50.0]), [np.array([1.0, 0.0])])
    assert order == [1, 0]


def test_leaders_with_parameters_that_joined_later():
    order, share = leaders(np.array([1.0, 9.0, 9.0]), [np.array([1.0]), np.array([1.0, 1.0])])
    assert set(order) == {0, 1, 2} - {i for i in range(3) if share[i] < 0.01}
