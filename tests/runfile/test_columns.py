from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad import open_run
from steadygrad.records import TensorInfo
from steadygrad.runfile import columns
from steadygrad.runfile.columns import STEP_COLUMNS, blocks, column_names


@given(st.lists(st.text(max_size=3) | st.sampled_from(["a", "a#1", "a#2"]), max_size=8))
def test_names_are_distinct_and_in_order(names):
    written = column_names([TensorInfo(name) for name in names])
    assert len(set(written)) == len(written) == len(STEP_COLUMNS) + len(names)
    for name, column in zip(names, written[len(STEP_COLUMNS) :], strict=True):
        assert column.startswith("grad_norm/" + name)


@given(st.lists(st.text(max_size=3), max_size=5, unique=True), st.lists(st.text(max_size=3), max_size=5))
def test_scalars_stand_between_the_step_and_the_tensors(scalars, names):
    written = column_names([TensorInfo(name) for name in names], scalars)
    assert len(set(written)) == len(written) == len(STEP_COLUMNS) + len(scalars) + len(names)
    for name, column in zip(scalars, written[len(STEP_COLUMNS) :], strict=False):
        assert column.startswith("scalar/" + name)


def test_a_name_that_is_no_text_can_be_encoded():
    "".join(column_names([TensorInfo("\ud800")])).encode()


@pytest.mark.parametrize("values", [1, 7, 10**6])
def test_blocks_of_any_size_make_the_same_table(record, monkeypatch, values):
    norms = np.arange(1.0, 61.0).reshape(20, 3)
    monkeypatch.setattr(columns, "BLOCK_VALUES", values)
    with open_run(record(norms)) as run:
        parts = list(blocks(run))
    table = [np.concatenate(column) for column in zip(*parts, strict=True)]
    assert len(table) == len(STEP_COLUMNS) + 3
    np.testing.assert_array_equal(table[0], np.arange(20))
    np.testing.assert_allclose(np.stack(table[-3:], axis=1), norms, rtol=3e-3)


def test_a_run_without_steps_has_no_blocks(record):
    with open_run(record(np.empty((0, 2)))) as run:
        assert list(blocks(run)) == []
