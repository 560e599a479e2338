from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from steadygrad.containment import Containment
from steadygrad.measure import ParamTable, parameter_names
from steadygrad.policies import clip_norm
from steadygrad.stepping import Applier, ClipCall, HandLoop, Lane, is_late
from steadygrad.stepping.arrears import Arrears

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


class Bench:
    """A lane with one linear layer, whose gradients a test sets by hand."""

    def __init__(self, *, late=False, policy=None, overhead=0.0):
        self.model = nn.Linear(3, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        self.readings = []
        self.traced = []
        self.table = ParamTable(parameter_names(self.model), self.optimizer.param_groups)
        self.lane = Lane(
            3,
            self.table,
            policy,
            late=late,
            overhead=overhead,
            on_reading=self.readings.append,
            on_owed=lambda reading: None,
            on_nonfinite=lambda: self.traced.append(self.lane.step),
            unlearnt=Arrears(lambda reading: None),
            containment=Containment(pytest.fail),
            clock=lambda: 7.0,
        )
        self.applier = Applier(self.optimizer)

    def begin_by_hand(self, value):
        for param in self.model.parameters():
            param.grad = torch.full_like(param, value)
        return self.lane.begin((), HandLoop()).total_norm

    def begin(self, value, treatment=None):
        for param in self.model.parameters():
            param.grad = torch.full_like(param, value)
        return self.lane.begin(self.optimizer.param_groups, treatment or self.applier).total_norm


@both_paths
def test_a_reading_says_what_is_known_of_the_step(late):
    bench = Bench(late=late)
    bench.lane.loss = 1.5
    total = bench.begin(2.0)
    bench.lane.end()
    bench.lane.deliver()
    (reading,) = bench.readings
    assert float(total) == pytest.approx(math.sqrt(32))
    assert (reading.step, reading.optimizer, reading.lr, reading.loss, reading.time_s) == (
        0,
        3,
        0.5,
        1.5,
        7.0,
    )
    assert reading.norms.tolist() == pytest.approx([math.sqrt(24), math.sqrt(8)])
    assert reading.total_norm == pytest.approx(math.sqrt(32))


def test_a_loss_belongs_to_one_step():
    bench = Bench()
    bench.lane.loss = 1.5
    for _ in range(2):
        bench.begin(1.0)
        bench.lane.end()
    assert [reading.loss for reading in bench.readings] == [1.5, None]


@both_paths
def test_an_abandoned_step_leaves_no_reading_and_no_number(late):
    bench = Bench(late=late, policy=clip_norm(0.1))
    bench.begin(math.nan)
    bench.lane.abandon()
    assert not bench.lane.under_way
    assert all(param.grad is not None for param in bench.model.parameters())
    bench.begin(1.0)
    bench.lane.end()
    bench.lane.deliver()
    assert [reading.step for reading in bench.readings] == [0]


@both_paths
def test_ending_what_never_began_does_nothing(late):
    bench = Bench(late=late)
    bench.lane.end()
    bench.lane.deliver()
    assert bench.readings == []
    assert bench.lane.step == 0


@both_paths
def test_a_later_evaluation_that_is_nonfinite_spoils_the_step(late):
    bench = Bench(late=late, policy=clip_norm(1e6))
    bench.begin(1.0)
    next(bench.model.parameters()).grad.fill_(math.nan)
    assert not bench.lane.again(bench.optimizer.param_groups)
    bench.lane.end(taken_back=True)
    bench.lane.deliver()
    (reading,) = bench.readings
    assert reading.skipped
    assert math.isnan(reading.total_norm)
    assert reading.nonfinite.tolist() == [True, False]


def test_a_later_evaluation_that_is_finite_leaves_the_first_reading():
    bench = Bench(policy=clip_norm(1e6))
    bench.begin(1.0)
    next(bench.model.parameters()).grad.fill_(5.0)
    assert bench.lane.again(bench.optimizer.param_groups)
    bench.lane.end()
    assert bench.readings[0].total_norm == pytest.approx(math.sqrt(8))


@both_paths
def test_a_clip_that_no_step_followed_is_a_scalers_overflow(late):
    bench = Bench(late=late, policy=clip_norm(1.0))
    bench.begin(math.inf, ClipCall(bench.optimizer))
    bench.lane.pass_over()
    bench.lane.deliver()
    (reading,) = bench.readings
    assert (reading.skipped, reading.overflow) == (True, True)


@both_paths
def test_a_finite_clip_that_no_step_followed_is_forgotten(late):
    bench = Bench(late=late, policy=clip_norm(1.0))
    bench.begin(1.0, ClipCall(bench.optimizer))
    bench.lane.pass_over()
    bench.lane.deliver()
    assert bench.readings == []


def test_late_readings_do_not_change_once_handed_on():
    bench = Bench(late=True)
    for value in (1.0, 2.0, 3.0):
        bench.begin(value)
        bench.lane.end()
    first = bench.readings[0].norms.copy()
    bench.lane.deliver()
    assert bench.readings[0].norms.tolist() == first.tolist()
    assert [reading.step for reading in bench.readings] == [0, 1, 2]


def test_memory_parameters_are_on_the_host_and_others_late():
    assert not is_late([torch.ones(1)])
    assert not is_late([torch.ones(1, device="meta")])
    assert not is_late([])


@both_paths
def test_a_step_made_by_hand_is_measured_when_the_next_begins(late):
    bench = Bench(late=late, overhead=1.0)
    with torch.no_grad():
        for _ in range(3):
            bench.begin_by_hand(2.0)
            bench.lane.end()
            bench.model.weight -= 0.5
    bench.lane.deliver()
    bench.lane.deliver()
    first, second, last = bench.readings
    assert [one.step for one in bench.readings] == [0, 1, 2]
    for one in (first, second):
        assert one.update_norms == pytest.approx([0.5 * math.sqrt(6), 0.0])
    assert last.update_norms is None


@both_paths
def test_a_pass_by_hand_that_only_gathers_is_no_step_of_length_zero(late):
    bench = Bench(late=late, overhead=1.0)
    for _ in range(3):
        bench.begin_by_hand(2.0)
        bench.lane.end()
    bench.lane.deliver()
    bench.lane.deliver()
    assert [one.update_norms for one in bench.readings] == [None, None, None]
