from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.errors import UsageError
from steadygrad.records import Reading, TensorInfo
from steadygrad.sinks.numbers import StepNumbers
from steadygrad.sinks.sink import Sink

VALUES = st.one_of(st.floats(0, 1e30), st.sampled_from([math.nan, math.inf, 0.0]))


def tensors(count):
    return [TensorInfo(f"layers.{i}") for i in range(count)]


def reading(norms, step=0, **changes):
    return Reading(step, np.array(norms, np.float64), float(np.linalg.norm(norms)), **changes)


@given(norms=st.lists(VALUES, min_size=1, max_size=30), worst=st.one_of(st.none(), st.integers(0, 5)))
def test_numbers_are_those_of_the_norms(norms, worst):
    numbers = StepNumbers(worst).of(reading(norms), tensors(len(norms)))
    finite = [norm for norm in norms if math.isfinite(norm)]
    assert numbers["norms/nonfinite"] == len(norms) - len(finite)
    if finite:
        assert numbers["norms/q50"] == pytest.approx(np.median(finite))
    else:
        assert math.isnan(numbers["norms/q50"])
    curves = [name for name in numbers if name.startswith("grad_norm/")]
    assert len(curves) == (len(norms) if worst is None else min(worst, len(norms)))
    for name in curves:
        value = norms[int(name.rpartition(".")[2])]
        assert numbers[name] == value or (math.isnan(value) and math.isnan(numbers[name]))


def test_worst_are_the_nonfinite_then_the_largest_and_stay():
    numbers = StepNumbers(worst=2)
    first = numbers.of(reading([1.0, math.nan, 3.0, 2.0]), tensors(4))
    assert {name for name in first if "grad" in name} == {"grad_norm/layers.1", "grad_norm/layers.2"}
    assert math.isnan(first["grad_norm/layers.1"])
    second = numbers.of(reading([9.0, 1.0, 3.0, 2.0]), tensors(4))
    assert {name for name in second if "grad" in name} == {f"grad_norm/layers.{i}" for i in (0, 1, 2)}


def test_curves_are_bounded():
    numbers = StepNumbers(worst=3)
    for step in range(200):
        norms = np.zeros(500)
        norms[step % 500] = 1.0
        last = numbers.of(reading(norms, step), tensors(500))
    assert sum("grad_norm" in name for name in last) == 16


def test_absent_gradients_count_for_nothing():
    absent = np.array([True, False, False])
    numbers = StepNumbers(None).of(reading([0.0, 2.0, 4.0], absent=absent), tensors(3))
    assert numbers["norms/q50"] == 3.0
    assert "grad_norm/layers.0" not in numbers
    nothing = StepNumbers().of(reading([0.0], absent=np.array([True])), tensors(1))
    assert "norms/max" not in nothing


def test_second_optimizer_has_names_of_its_own():
    numbers = StepNumbers().of(reading([1.0], optimizer=1, cap=2.0, lr=0.1, lr_factor=0.5), tensors(1))
    assert numbers["optimizer1/cap"] == 2.0
    assert numbers["optimizer1/lr"] == 0.05
    assert all(name.startswith("optimizer1/") for name in numbers)


class Kept(Sink):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.rows, self.texts = [], []

    def write(self, step, values):
        self.rows.append((step, dict(values)))

    def write_finding(self, finding, text):
        self.texts.append(text)


def test_every_tenth_step_and_each_remarkable_one():
    sink = Kept()
    for step in range(25):
        changes = {7: {"skipped": True}, 8: {"clip_coef": 0.5}}.get(step, {})
        sink.reading(reading([math.inf if step == 9 else 1.0], step, **changes), tensors(1))
        sink.number(step, "loss", math.nan if step == 3 else 1.0)
    assert [step for step, values in sink.rows if "steadygrad/total_norm" in values] == [0, 7, 8, 9, 10, 20]
    assert [step for step, values in sink.rows if "steadygrad/loss" in values] == [0, 3, 10, 20]


@pytest.mark.parametrize("wrong", [{"every": 0}, {"every": True}, {"worst": -1}, {"worst": 1.5}])
def test_wrong_arguments(wrong):
    with pytest.raises(UsageError, match="expected a whole number"):
        Kept(**wrong)
