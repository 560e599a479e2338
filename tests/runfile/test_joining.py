from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.records import Reading, RunInfo, TensorInfo
from steadygrad.runfile import RunWriter, open_run
from steadygrad.runfile.block import HAS_LOSS, NO_ROWS
from steadygrad.runfile.joining import on_rows, with_losses


def rows(*spans, optimizer=None):
    """A Head of (first step, resolution) rows."""
    count = len(spans)
    step, resolution = (np.array(column, np.int64) for column in zip(*spans, strict=True))
    return replace(
        NO_ROWS,
        step=step,
        resolution=resolution,
        optimizer=np.array(optimizer or [0] * count, np.int64),
        flags=np.zeros(count, np.int64),
        loss=np.full(count, np.nan),
    )


values = st.sampled_from([math.nan, math.inf, -math.inf, 0.0]) | st.floats(-100, 100)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.lists(st.tuples(st.integers(0, 30), values)))
def test_each_row_has_the_mean_of_its_finite_points(resolutions, points):
    first = np.cumsum([0, *resolutions[:-1]])
    head = rows(*zip(first, resolutions, strict=True))
    step = np.array([at for at, _ in points], np.int64)
    joined = on_rows(head, step, np.array([value for _, value in points]))
    for row, (start, resolution) in enumerate(zip(first, resolutions, strict=True)):
        mine = [value for at, value in points if start <= at < start + resolution]
        finite = [value for value in mine if math.isfinite(value)]
        truth = np.mean(finite) if finite else mine[-1] if mine else math.nan
        np.testing.assert_allclose(joined[row], truth, rtol=1e-12, atol=1e-12)


def test_an_optimizer_that_steps_more_seldom_gets_none():
    head = rows((0, 1), (0, 1), (1, 1), (2, 1), (3, 1), (1, 1), optimizer=[0, 1, 0, 0, 0, 1])
    np.testing.assert_equal(
        on_rows(head, np.arange(4), np.arange(4.0)), [0.0, math.nan, 1.0, 2.0, 3.0, math.nan]
    )


def test_a_loss_that_a_row_has_stays_and_a_logged_nan_is_logged():
    head = rows((0, 1), (1, 1), (2, 1))
    head = replace(head, flags=np.array([HAS_LOSS, 0, 0]), loss=np.array([7.0, math.nan, math.nan]))
    joined = with_losses(head, np.array([0, 1]), np.array([1.0, math.nan]))
    np.testing.assert_equal(joined.loss, [7.0, math.nan, math.nan])
    assert (joined.flags & HAS_LOSS > 0).tolist() == [True, True, False]


def test_no_rows_and_no_points():
    assert on_rows(NO_ROWS, np.array([3]), np.array([1.0])).size == 0
    assert np.isnan(on_rows(rows((0, 1)), np.zeros(0, np.int64), np.zeros(0))).all()


@pytest.mark.parametrize("statistic", ["mean", "min", "max"])
def test_the_rows_of_another_optimizer_are_nan_and_absent(tmp_path, statistic):
    tensors = (TensorInfo("a"), TensorInfo("b", optimizer=1), TensorInfo("none", optimizer=1))
    with RunWriter(tmp_path / "a.steady", RunInfo("a", tensors=tensors)) as writer:
        for step in range(3):
            writer.append(Reading(step, np.array([1.0, 0, 0]), 1.0, absent=np.array([False, True, True])))
            absent = np.array([True, False, True])
            writer.append(Reading(step, np.array([0, 4.0, 0]), 4.0, absent=absent, optimizer=1))
    with open_run(writer.path) as run:
        nan = math.nan
        np.testing.assert_allclose(run.norms("a", statistic), [1.0, nan] * 3, rtol=2e-3)
        np.testing.assert_allclose(run.norms("b", statistic), [nan, 4.0] * 3, rtol=2e-3)
        np.testing.assert_allclose(run.norms("none", statistic), [nan, 0.0] * 3, rtol=2e-3)
        assert run.absent("a").tolist() == [False, True] * 3
        np.testing.assert_allclose(run.norm_matrix(1, 3), [[nan, 4.0, 0.0], [1.0, nan, nan]], rtol=2e-3)


def test_scalars_beside_the_rows(tmp_path):
    with RunWriter(tmp_path / "a.steady", RunInfo("a", tensors=(TensorInfo("a"),))) as writer:
        for step in range(3):
            writer.append(Reading(step, np.ones(1), 1.0))
        writer.scalar(1, "accuracy", 0.5)
        writer.scalar(2, "loss", 4.0)
    with open_run(writer.path) as run:
        np.testing.assert_equal(run.scalar_on_rows("accuracy"), [math.nan, 0.5, math.nan])
        np.testing.assert_equal(run.loss, [math.nan, math.nan, 4.0])
        assert run.loss_logged.tolist() == [False, False, True]
        with pytest.raises(KeyError, match="accuracy"):
            run.scalar_on_rows("acuracy")
