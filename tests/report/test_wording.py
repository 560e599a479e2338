from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.report.wording import duration, moment, number, plural, share, some, visible


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (412.0, "412"),
        (12_345.0, "12,345"),
        (1e6, "1e+06"),
        (0.000123456, "0.000123"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (5e-324, "4.94e-324"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


@given(st.floats(max_value=1.79e308, min_value=-1.79e308) | st.sampled_from([math.nan, math.inf]))
def test_a_number_says_its_value_to_half_a_percent(value):
    read = float(number(value).replace(",", ""))
    assert read == pytest.approx(value, rel=0.0051, nan_ok=True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "60 s"), (60, "1 min"), (3600, "1 h"), (3661, "1 h 1 min"), (90_061, "1 d 1 h")],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


@given(st.floats(min_value=0))
def test_any_time_can_be_written(seconds):
    assert duration(seconds)
    moment(seconds)


def test_unknown_moment_is_empty():
    assert moment(0.0) == ""
    assert moment(math.nan) == ""
    assert moment(1e300) == ""


@pytest.mark.parametrize(("count", "text"), [(0, "0 steps"), (1, "1 step"), (12_000, "12,000 steps")])
def test_plural(count, text):
    assert plural(count, "step") == text


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_share_is_zero_or_all_only_when_it_is(part, whole):
    text = share(min(part, whole), whole)
    assert (text == "0 %") == (part == 0)
    assert (text == "100 %") == (part >= whole)


def test_share_of_nothing():
    assert share(0, 0) == "0 %"


@given(st.lists(st.text(), max_size=8), st.integers(1, 5))
def test_names_left_out_are_counted(names, most):
    text = some(names, most)
    assert text.startswith(", ".join(map(visible, names[:most])))
    assert text.endswith(f" and {len(names) - most} more") == (len(names) > most)


@given(st.text(st.characters(codec=None)))
def test_visible_text_has_nothing_a_terminal_obeys(text):
    shown = visible(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_readable_text_stays_as_it_is(text):
    assert visible(text) == text
