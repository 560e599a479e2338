from __future__ import annotations

import numpy as np
import pytest

from steadygrad.report.page.data.buckets import Buckets, buckets
from steadygrad.report.page.data.raster import NO_GRADIENT, NONFINITE, NOTHING, cell_value, raster
from steadygrad.runfile import open_run


def slow_truth(run, columns):
    """Every cell from the whole matrix: the largest finite norm, Inf where any is non-finite, NaN without a row."""
    cells = np.full((len(run.info.tensors), columns.count), np.nan)
    first = columns.place(run.steps)
    last = columns.place(run.steps + run.resolution - 1)
    for p, tensor in enumerate(run.info.tensors):
        mine = run.optimizer == tensor.optimizer
        norms, means = run.norms(tensor.name, "max"), run.norms(tensor.name)
        for row in np.flatnonzero(mine):
            value = norms[row] if np.isfinite(means[row]) else np.inf
            at = slice(first[row], last[row] + 1)
            cells[p, at] = np.fmax(cells[p, at], value)
    return cells


def alike(made, truth):
    """Codes cover 3e-56 to 3e55; what lies outside is drawn at that end."""
    made, truth = (np.clip(np.nan_to_num(one, nan=-1.0), -1.0, 2e55) for one in (made, truth))
    tiny = (truth > 0) & (truth < 3e-56)
    return np.isclose(made, truth, rtol=1e-9, atol=1e-55) | (tiny & (made < 1e-55))


@pytest.mark.parametrize(("columns", "optimizers"), [(700, 1), (31, 1), (1, 1), (90, 2)])
def test_every_cell_is_the_largest_norm_of_its_steps(wild_run, columns, optimizers):
    run = wild_run(optimizers=optimizers)
    made = raster(run, buckets((run,), columns))
    assert alike(made.values(), slow_truth(run, made.buckets)).all()


def test_a_single_bad_step_among_a_hundred_thousand_is_a_cell_of_its_own(record):
    norms = np.ones((5000, 3))
    norms[1234, 1], norms[4321, 2] = np.nan, 1e9
    with open_run(record(norms)) as run:
        made = raster(run, buckets((run,), 50))
    assert np.argwhere(made.cells == NONFINITE).tolist() == [[1, 12]]
    assert np.argwhere(made.values() > 1e8)[-1].tolist() == [2, 43]
    assert made.values()[2, 43] == pytest.approx(1e9, rel=2e-3)


def test_spikes_survive_in_rows_that_stand_for_many_steps(wild_run):
    run = wild_run(5000, 24, seed=5, size_cap_bytes=290_000)
    assert run.resolution.max() > 1
    made = raster(run, buckets((run,), 200))
    for p, tensor in enumerate(run.info.tensors):
        peaks = run.norms(tensor.name, "max")
        largest = np.max(peaks[np.isfinite(peaks)], initial=0.0)
        assert np.isclose(made.values()[p][made.finite[p]].max(), min(largest, 3.83e55), rtol=0.01)
        bad = ~np.isfinite(run.norms(tensor.name))
        columns = made.buckets.place(run.steps[bad])
        assert (made.cells[p, columns] == NONFINITE).all()


def test_no_step_and_no_gradient_look_different(record):
    with open_run(record([[1.0, 0.0]] * 4)) as run:
        made = raster(run, Buckets(0.0, 8.0, 8))
    assert (made.cells[1, :4] == NO_GRADIENT).all()
    assert (made.cells[:, 4:] == NOTHING).all()
    assert np.isnan(cell_value(NONFINITE))
    assert cell_value(NO_GRADIENT) == 0.0


def test_a_run_without_steps_or_tensors(record):
    with open_run(record(np.zeros((0, 2)))) as run:
        assert (raster(run).cells == NOTHING).all()
    with open_run(record(np.zeros((3, 0)), name="bare")) as run:
        assert raster(run).cells.shape == (0, 3)
