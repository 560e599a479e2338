import dataclasses

import numpy as np
import pytest

from steadygrad.runfile.block import join
from steadygrad.runfile.chunk import pack, unpack
from steadygrad.runfile.coarsen import coarsen
from steadygrad.runfile.coding import Layout, from_readings

TENSORS = 4


@pytest.fixture
def block(wild, tensors_named):
    def make(steps, seed=0, optimizers=1):
        readings = wild(steps, TENSORS, seed)
        turns = [dataclasses.replace(r, optimizer=i % optimizers) for i, r in enumerate(readings)]
        return from_readings(turns, Layout(tensors_named(TENSORS)))

    return make


def slow_truth(block, rows):
    """One coarse row of plain rows, by the book."""
    values, absent = block.body.norms.values()[rows], block.body.norms.absent()[rows]
    mean, low, high = np.zeros((3, TENSORS))
    for tensor in range(TENSORS):
        present = values[~absent[:, tensor], tensor]
        finite = present[np.isfinite(present)]
        if finite.size:
            mean[tensor], low[tensor], high[tensor] = (finite / finite.size).sum(), finite.min(), finite.max()
        elif present.size:
            mean[tensor] = low[tensor] = high[tensor] = np.nan if np.isnan(present).any() else np.inf
    return mean, low, high


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("resolution", [2, 8, 64])
@pytest.mark.parametrize("optimizers", [1, 3])
def test_coarse_rows_are_the_mean_minimum_and_maximum_of_their_steps(block, seed, resolution, optimizers):
    fine = block(100, seed, optimizers)
    coarse = coarsen(fine, resolution)
    for row in range(coarse.rows):
        mine = np.flatnonzero(fine.head.optimizer == coarse.head.optimizer[row])
        start = int(np.flatnonzero(fine.head.step[mine] == coarse.head.step[row])[0])
        rows = mine[start : start + coarse.head.resolution[row]]
        mean, low, high = slow_truth(fine, rows)
        np.testing.assert_allclose(coarse.body.norms.values()[row], mean, rtol=0.002)
        if rows.size > 1:
            index = int((coarse.head.resolution[:row] > 1).sum())
            np.testing.assert_array_equal(coarse.body.low.values()[index], low)
            np.testing.assert_array_equal(coarse.body.high.values()[index], high)


def test_no_step_and_no_count_is_lost_however_often(block):
    fine = block(512, optimizers=2)
    twice = coarsen(coarsen(fine, 8), 64)
    once = coarsen(fine, 64)
    assert twice.head.resolution.sum() == 512
    assert twice.head.nonfinite.sum() == fine.head.nonfinite.sum()
    np.testing.assert_array_equal(twice.head.resolution, once.head.resolution)
    np.testing.assert_array_equal(twice.body.nan_count, once.body.nan_count)
    np.testing.assert_array_equal(twice.body.finite_count, once.body.finite_count)
    np.testing.assert_array_equal(twice.body.low.values(), once.body.low.values())
    np.testing.assert_allclose(twice.body.norms.values(), once.body.norms.values(), rtol=0.006)


def test_protected_rows_stay_as_they_are(block):
    fine = block(100)
    protected = np.zeros(100, bool)
    protected[30:41] = True
    coarse = coarsen(fine, 8, protected)
    kept = coarse.head.resolution == 1
    assert set(range(30, 41)) <= set(coarse.head.step[kept])
    for step in range(30, 41):
        row = int(np.flatnonzero(coarse.head.step == step)[0])
        np.testing.assert_array_equal(coarse.body.norms.values()[row], fine.body.norms.values()[step])
    assert (np.diff(coarse.head.step) > 0).all()
    assert coarse.head.resolution.sum() == 100


def test_a_coarse_block_comes_back_from_bytes_and_joins(block):
    parts = [coarsen(block(40), 8), block(10, seed=1), coarsen(block(30, seed=2), 8)]
    whole = unpack(*pack(join(parts)))
    assert whole.head.resolution.sum() == 80
    assert whole.body.low.rows == (whole.head.resolution > 1).sum()
    np.testing.assert_array_equal(whole.body.high.values(), join(parts).body.high.values())


def test_sparse_norms_keep_the_last_of_each_row(block):
    fine = block(64)
    coarse = coarsen(fine, 32)
    assert coarse.body.param_norms.rows.tolist() == [0, 1]
    last = fine.body.param_norms.matrix.values()[[1, 3]]
    np.testing.assert_array_equal(coarse.body.param_norms.matrix.values(), last)


def test_extremes_of_the_total_norm_survive(block):
    fine = block(256, seed=3)
    coarse = coarsen(coarsen(fine, 8), 256)
    finite = fine.head.total_norm[np.isfinite(fine.head.total_norm)]
    assert (coarse.head.total_low[0], coarse.head.total_high[0]) == (finite.min(), finite.max())


def test_nothing_to_join_gives_the_same_block(block):
    fine = block(20)
    assert coarsen(fine, 1) is fine
    assert coarsen(fine, 8, np.ones(20, bool)) is fine
