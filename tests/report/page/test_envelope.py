from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steadygrad.report.page.data.buckets import Buckets
from steadygrad.report.page.data.envelope import Rows, stretches

NUMBERS = st.floats(width=64) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e308, -1e308])
SERIES = hnp.arrays(np.float64, st.integers(1, 60), elements=NUMBERS)


def rows_of(count, columns, resolution=1):
    buckets = Buckets(0.0, float(count * resolution), min(columns, count * resolution))
    steps = np.arange(count, dtype=np.int64) * resolution
    return buckets, Rows.of(buckets, steps, np.full(count, resolution, np.int64))


@settings(deadline=None)
@example(np.full(45, np.finfo(np.float64).max), 1)
@given(SERIES, st.integers(1, 20))
def test_each_column_reaches_from_the_smallest_to_the_largest_of_its_steps(values, columns):
    buckets, rows = rows_of(len(values), columns)
    made = rows.envelope(values, values, values)
    for column in range(buckets.count):
        mine = values[buckets.place(np.arange(len(values))) == column]
        known = mine[np.isfinite(mine)]
        if known.size:
            assert made.low[column] == known.min()
            assert made.high[column] == known.max()
            assert np.isfinite(made.middle[column])
        else:
            assert np.isnan([made.low[column], made.middle[column], made.high[column]]).all()


@settings(deadline=None)
@given(st.integers(0, 99_999), st.integers(1, 2000))
def test_a_spike_of_a_single_step_survives(at, columns):
    values = np.ones(100_000)
    values[at] = 1e6
    buckets, rows = rows_of(100_000, columns)
    made = rows.envelope(values, values, values)
    assert made.high[buckets.place(np.array([at]))[0]] == 1e6
    assert (made.high == 1e6).sum() == 1


def test_a_coarse_row_fills_all_the_columns_it_stands_for():
    buckets, rows = rows_of(4, 1000, resolution=8)
    made = rows.envelope(*[np.array([1.0, 2.0, 3.0, 4.0])] * 3)
    assert buckets.count == 32
    assert made.middle.tolist() == np.repeat([1.0, 2.0, 3.0, 4.0], 8).tolist()
    assert rows.any(np.array([False, True, False, False])).tolist() == np.repeat([0, 1, 0, 0], 8).tolist()


def test_a_gap_between_rows_stays_a_gap():
    buckets = Buckets(0.0, 10.0, 10)
    rows = Rows.of(buckets, np.array([0, 7]), np.array([2, 1]))
    known = np.isfinite(rows.envelope(*[np.array([1.0, 2.0])] * 3).high)
    assert np.flatnonzero(known).tolist() == [0, 1, 7]


@given(hnp.arrays(np.bool_, st.integers(0, 40)))
def test_stretches_cover_exactly_what_is_hit(hit):
    covered = np.zeros_like(hit)
    for first, behind in stretches(hit):
        assert not covered[max(0, first - 1) : behind].any()
        covered[first:behind] = True
    assert (covered == hit).all()


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20))
def test_any_step_has_a_column(steps):
    buckets = Buckets.over(float(min(steps)), float(max(steps)) + 1.0, 7)
    at = buckets.place(np.array(steps, np.int64))
    assert ((at >= 0) & (at < buckets.count)).all()
