from __future__ import annotations

from io import BytesIO, TextIOWrapper

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rich.console import Console

from steadygrad.report.sparkline import HEIGHT, Mark, Sparkline, column_levels, column_starts

TOP = HEIGHT * 8


def drawn(sparkline, width=60, encoding="utf-8"):
    file = TextIOWrapper(BytesIO(), encoding=encoding)
    Console(file=file, width=width, color_system=None).print(sparkline)
    file.seek(0)
    return file.read().splitlines()


def slow_starts(weights, width):
    """Row that holds the first step of each column, counted step by step."""
    row_of_step = [row for row, weight in enumerate(weights) for _ in range(weight)]
    count = min(width, len(row_of_step))
    return [row_of_step[int(np.floor(k * (len(row_of_step) / count)))] for k in range(count)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 80))
def test_columns_stand_for_equal_numbers_of_steps(weights, width):
    assert column_starts(np.array(weights), width).tolist() == slow_starts(weights, width)


@given(
    hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.integers(20, 130),
    st.integers(1, 8),
    st.booleans(),
)
def test_anything_can_be_drawn_in_any_size_on_either_axis(values, width, height, log):
    marks = {"!": Mark(~np.isfinite(values), "red")}
    picture = Sparkline(values, np.ones(len(values), int), marks, "step 0", "9", height=height, log=log)
    lines = drawn(picture, width)
    assert len(lines) >= height + 2
    assert lines[height].count("!") > 0 or np.isfinite(values).all()
    assert (
        log or not np.isfinite(values).any() or any(block in "".join(lines[:height]) for block in "▁▂▃▄▅▆▇█")
    )


def test_a_linear_axis_shows_what_is_below_zero():
    values = np.array([1.0, 0.0, -1.0, np.nan])
    assert column_levels(values, np.arange(4), log=False).tolist() == [TOP, 1 + round(0.5 * (TOP - 1)), 1, 0]


@given(hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(0, 1e300)), st.integers(1, 60))
def test_the_largest_value_survives_any_width(values, width):
    starts = column_starts(np.ones(len(values), int), width)
    levels = column_levels(values, starts)
    assert levels.max() <= TOP
    if (values > 0).any() and values.max() > 2 * values[values > 0].min():
        assert levels.max() == TOP


def test_a_spike_of_one_step_in_ten_thousand_is_seen_where_it_is():
    values = np.ones(10_000)
    values[7_500] = 1e9
    starts = column_starts(np.ones(10_000, int), 50)
    levels = column_levels(values, starts)
    assert np.flatnonzero(levels == TOP).tolist() == [37]


def test_zero_and_nonfinite_have_no_height():
    values = np.array([1.0, 0.0, np.nan, np.inf, 100.0])
    levels = column_levels(values, np.arange(5))
    assert levels.tolist() == [1, 0, 0, 0, TOP]


def test_marks_stand_under_their_columns_and_the_first_kind_wins():
    rows = np.array([False, True, False])
    marks = {"!": Mark(rows), "c": Mark(np.array([True, True, False]))}
    lines = drawn(Sparkline(np.array([1.0, 2.0, 3.0]), np.ones(3, int), marks))
    assert lines[HEIGHT].strip() == "c!"


def test_the_axis_says_the_largest_and_the_smallest_value():
    lines = drawn(Sparkline(np.array([0.002, 5.0, 3e7]), np.ones(3, int), {}, "step 0", "2"))
    assert lines[0].startswith("  3e+07 ")
    assert lines[HEIGHT - 1].lstrip().startswith("0.002 ")
    assert lines[-1].strip().startswith("step 0")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_block_characters_gets_ascii(encoding):
    lines = drawn(Sparkline(np.array([1.0, 10.0]), np.ones(2, int)), encoding=encoding)
    assert "".join(lines).isascii()
