from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from steadygrad.records import Finding, RunInfo, TensorInfo
from steadygrad.report.page import render
from steadygrad.report.page.data.spread import spread
from steadygrad.report.ranks import Skew, skew, told
from steadygrad.runfile import RunWriter, open_run
from steadygrad.runfile.own_numbers import LOCAL_NORM

NAN = math.nan


@pytest.fixture
def of_ranks(record, tmp_path):
    """Runs of several ranks: own losses, one row a rank, and findings by rank."""

    def make(losses, *, findings=None, skips=None, world=None):
        runs = []
        for rank, row in enumerate(losses):
            changes = {
                step: {"loss": loss, "skipped": step in (skips or {}).get(rank, ())}
                for step, loss in enumerate(row)
            }
            path = record(
                [[1.0]] * len(row), changes, (findings or {}).get(rank, ()),
                path=tmp_path / f"a.rank{rank}.steady", name="a", rank=rank, world_size=world or len(losses),
            )  # fmt: skip
            runs.append(open_run(path))
        return runs

    return make


def test_ranks_that_agree_have_one_thing_to_say(of_ranks):
    runs = of_ranks([[1.0, 0.9, 0.8], [1.1, 0.9, 0.7]])
    assert told(runs, skew(runs)) == ["The run files of all 2 ranks are here."]


def test_who_is_missing_and_who_ended_early_is_said(of_ranks):
    runs = of_ranks([[1.0] * 10, [1.0] * 6], world=4)
    assert told(runs, skew(runs)) == [
        "2 of 4 run files are here; ranks 2, 3 are missing.",
        "Rank 1 ends at step 5, 4 steps before the last of the others.",
    ]


def test_the_same_steps_skipped_and_others(of_ranks):
    losses = [[1.0] * 6] * 2
    same = of_ranks(losses, skips={0: (2, 4), 1: (2, 4)})
    assert "All ranks skipped the same 2 steps." in told(same, skew(same))


def test_ranks_that_part_are_told_first_step_first(of_ranks):
    runs = of_ranks([[1.0] * 6] * 2, skips={0: (2, 4), 1: (4,)})
    assert any("differ first at step 2" in line for line in told(runs, skew(runs)))


def test_the_guilty_rank_and_what_one_rank_alone_has(of_ranks):
    brought = [
        Finding("nonfinite_gradient", "error", step, ("a",), "NaN", evidence={"guilty_rank": 1.0})
        for step in (4, 2)
    ]
    own = Finding("nonfinite_input", "error", 2, ("input",), "NaN")
    runs = of_ranks([[1.0] * 6] * 3, findings={0: brought, 1: [*brought, own], 2: brought})
    lines = told(runs, skew(runs))
    assert "Rank 1 brought 2 of 2 findings whose rank is known, the first at step 2." in lines
    assert "nonfinite_input on rank 1 only, first at step 2." in lines
    assert not any(line.startswith("nonfinite_gradient") for line in lines)


def test_a_rank_whose_numbers_are_far_from_the_others_stands_out(of_ranks):
    runs = of_ranks([[1.0] * 5, [1.2] * 5, [9.0, 9.0, NAN, 9.0, 9.0], [0.9] * 5])
    lines = told(runs, skew(runs))
    assert any("Rank 2 stands out: its loss of its own batches" in line for line in lines)
    assert "The loss of its own batches of rank 2 was not finite at 1 step." in lines
    assert sum("stands out" in line for line in lines) == 1


def test_local_norms_come_before_losses(tmp_path):
    runs = []
    for rank in (0, 1):
        info = RunInfo("a", tensors=(TensorInfo("w", (2,)),), rank=rank, world_size=2)
        with RunWriter(tmp_path / f"a.rank{rank}.steady", info) as writer:
            for step in (0, 1, 2)[rank:]:
                writer.scalar(step, LOCAL_NORM, 10.0 * rank + step)
        runs.append(open_run(writer.path))
    found = skew(runs)
    assert (found.label, found.ranks) == ("local norm", (0, 1))
    assert found.steps.tolist() == [1, 2]
    assert found.values.tolist() == [[1.0, 11.0], [2.0, 12.0]]


VALUES = st.floats(1e-6, 1e6) | st.sampled_from([NAN, math.inf, 0.0])


@given(
    arrays(np.float64, st.tuples(st.integers(1, 5000), st.integers(1, 6)), elements=VALUES, fill=st.just(1.0))
)
def test_what_one_rank_has_at_one_step_stays_in_the_picture(values):
    found = Skew("loss", "loss", tuple(range(values.shape[1])), np.arange(len(values)), values)
    data = spread(found)
    finite = values[np.isfinite(values)]
    assert len(data.steps) == len(data.low) == len(data.high) <= 2000
    if finite.size:
        assert np.nanmin(data.low) == finite.min()
        assert np.nanmax(data.high) == finite.max()
    for rank in found.ranks:
        bad = ~np.isfinite(values[:, rank])
        assert data.bad.get(rank, np.zeros(0)).tolist() == np.flatnonzero(bad).tolist()


def test_a_page_puts_ranks_beside_each_other_and_survives_one_without_numbers(of_ranks):
    runs = of_ranks([[1.0] * 40, [NAN] * 40, [3.0] * 40])
    page = render(runs[0], ranks=runs)
    assert "The ranks beside each other" in page
    assert "The run files of all 3 ranks are here." in page
    assert "The ranks beside each other" not in render(runs[0])
