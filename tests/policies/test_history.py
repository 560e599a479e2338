from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.streams import norms_of_any_size, patient, poison, reading

from steadygrad.errors import PolicyError
from steadygrad.policies.history import NORM_FLOOR, NormWindow, Tally

STREAMS = st.lists(st.one_of(norms_of_any_size(), poison()), min_size=1, max_size=60)


def window_of(stream, size):
    window = NormWindow(size)
    for norm in stream:
        window.add(norm)
    return window


@patient
@given(STREAMS, st.integers(1, 20), st.floats(0.0, 1.0))
def test_statistics_are_those_of_the_newest_finite_log_norms(stream, size, q):
    newest = [math.log(max(norm, NORM_FLOOR)) for norm in stream if math.isfinite(norm)][-size:]
    window = window_of(stream, size)
    assert list(window) == newest
    assert len(window) == len(newest)
    if newest:
        median = statistics.median(newest)
        assert window.median() == pytest.approx(median, abs=1e-12)
        assert window.mad() == pytest.approx(statistics.median(abs(u - median) for u in newest), abs=1e-12)
        assert window.quantile(q) == pytest.approx(float(np.quantile(newest, q)), abs=1e-9)
        assert window.max() == max(newest)


@patient
@given(STREAMS, STREAMS, st.integers(1, 20))
def test_a_restored_window_goes_on_as_the_original(before, after, size):
    window = window_of(before, size)
    restored = NormWindow(size)
    restored.add(123.0)
    restored.load_state_dict(json.loads(json.dumps(window.state_dict())))
    for norm in after:
        window.add(norm)
        restored.add(norm)
    assert list(restored) == list(window)
    assert sorted(restored) == restored._sorted


def test_a_smaller_window_restores_the_newest_norms():
    window = window_of([1.0, 2.0, 3.0, 4.0], 4)
    smaller = NormWindow(2)
    smaller.load_state_dict(window.state_dict())
    assert [math.exp(u) for u in smaller] == pytest.approx([3.0, 4.0])


def test_a_poisoned_state_is_cleaned_when_loaded():
    window = NormWindow(4)
    window.load_state_dict({"log_norms": [0.0, math.nan, math.inf, 1.0]})
    assert list(window) == [0.0, 1.0]


def test_memory_stays_within_the_size():
    window = window_of((1.0 + i % 7 for i in range(1000)), 10)
    assert len(window) == len(list(window)) == len(window._sorted) == 10


@pytest.mark.parametrize("statistic", ["median", "mad", "max"])
def test_an_empty_window_says_that_it_is_empty(statistic):
    with pytest.raises(ValueError, match="empty"):
        getattr(NormWindow(3), statistic)()


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "3"])
def test_a_size_that_is_no_count_is_refused(size):
    with pytest.raises(PolicyError, match="size must be a whole number"):
        NormWindow(size)


def test_the_tally_counts_scaled_steps():
    tally = Tally()
    for clip_coef in (1.0, 0.5, 1.0, 0.999):
        tally.add(reading([1.0], clip_coef))
    assert str(tally) == "scaled 2 of 4 steps"
    other = Tally()
    other.load_state_dict(tally.state_dict())
    assert other == tally
