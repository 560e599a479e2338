"""Running statistics that jump, in numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import steadygrad as sg
from steadygrad.recover.statistics import AGAIN, SETTLED, UNTRAINED, RunningStatistics

NAMES = ["1.running_mean", "1.running_var", "1.num_batches_tracked", "memory"]


def looks(variances, watch=None):
    watch = watch or RunningStatistics()
    return [watch.jumped(NAMES, np.array([1.0, one, 3.0, 5.0])) for one in variances]


def test_a_variance_that_jumps_is_put_back_with_its_mean():
    found = looks([1.0] * (SETTLED + 3) + [1e9])
    assert found[-1] == ["1.running_var", "1.running_mean"]
    assert not any(found[:-1])


@pytest.mark.parametrize("factor", [0.0, 1e-9, 2.0, 500.0])
def test_smaller_changes_are_left_alone(factor):
    assert not any(looks([1.0] * (SETTLED + 3) + [factor] * 3))


@pytest.mark.parametrize("path", [[1.0, 1e9, 2e9, 3e9], [1e10, 1.1e10, 1.2e10], [1.0, 1e-9, 1e4]])
def test_in_the_beginning_it_may_go_anywhere(path):
    assert not any(looks(path))


def test_but_what_is_huge_and_fades_in_the_beginning_was_no_batch_of_these():
    assert [bool(one) for one in looks([1e11, 3.5e10, 1.0, 1.0])] == [False, True, False, False]


def test_a_second_jump_soon_after_is_how_the_data_are_now():
    found = looks([1.0] * (SETTLED + 3) + [1e9] * 3 + [1.0] * 3)
    assert [bool(one) for one in found[SETTLED + 3 :]] == [True, False, False, False, False, False]


def test_a_jump_long_after_is_a_new_one():
    found = looks([1.0] * (SETTLED + 3) + [1e9] + [1.0] * (AGAIN + 1) + [1e9])
    assert bool(found[-1])


@given(st.lists(st.floats(allow_nan=True), max_size=40))
def test_whatever_comes_it_never_fails(variances):
    looks(variances)


@pytest.mark.parametrize("batches", [1, UNTRAINED + 1])
def test_what_the_first_batches_have_ruined_before_anybody_attached_is_as_in_an_untrained_layer(batches):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(batches):
        loss = model(torch.full((5, 3), torch.nan)).sum()
    loss.backward()
    guard = sg.guard(model, optimizer, recover=sg.recover.rollback())
    optimizer.step()
    few = batches <= UNTRAINED
    assert bool(model[1].running_mean.isfinite().all()) == few
    assert (model[1].running_var.tolist() == [1.0] * 4) == few
    assert guard.counts.repairs == few
