"""`auto` may be asked less and told later: never may that change what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.steps import Track
from tests.policies.streams import patient

from steadygrad.policies import auto, clip_norm, steady, zclip
from steadygrad.policies.base import PUT_OFF
from steadygrad.policies.footing import Footing
from steadygrad.records import Reading
from steadygrad.stepping.bounded import BoundedPolicy

EVERY = 10
NORMS = st.lists(
    st.one_of(st.floats(-0.3, 0.3), st.sampled_from([-3.0, 3.0, 4.0, 8.0])), min_size=60, max_size=300
)
BOUNDS = st.lists(st.sampled_from([math.inf, 1.0, 0.3, 30.0]), min_size=1, max_size=3)
RATES = st.lists(st.sampled_from([1e-3, 9e-4, 2e-3, 0.3, 3.0, 20.0]), min_size=1, max_size=4)
KINDS = st.sampled_from([("adaptive", 0.0), ("sgd", 0.0), ("sgd", 0.9), ("sgd", 0.99), ("other", 0.0)])


def measured(run, norm, lr):
    found = run.measured([norm, 0.0], [lr])
    groups = tuple(found.groups)
    # As `ParamTable.hyper`: the same object while nothing changes.
    run.groups = groups if groups != getattr(run, "groups", None) else run.groups
    return replace(found, known_total=norm, groups=run.groups)


class Driver:
    """A policy in a loop that may clip by itself, driven step by step, told of each step at once."""

    def __init__(self, kind, momentum=0.0):
        self.run = Track(auto(), kind=kind, momentum=momentum, param_norms=(30.0, 40.0))
        self.waiting, self.spared = [], 0
        self.policy, self.incidents = BoundedPolicy(self.run.policy), []

    def take(self, step, norm, lr):
        found = measured(self.run, norm, lr)
        factor = self.policy.scale(found)
        said = (1.0 if factor is None else float(factor), self.policy.lr_factor(found))
        self.learn(self.reading(step, norm, lr, *said))
        return said

    def learn(self, reading):
        self.incidents += [(one.step, one.action) for one in self.policy.learn(reading)]

    def drop(self, norm, lr):
        """A step that is judged, and of which nothing ever comes."""
        self.settle()
        found = measured(self.run, norm, lr)
        self.policy.scale(found)
        self.policy.lr_factor(found)

    def settle(self):
        waiting, self.waiting = self.waiting, []
        for reading in waiting:
            self.learn(reading)

    @staticmethod
    def reading(step, norm, lr, factor=1.0, lr_factor=1.0):
        norms = None if step % EVERY else np.array([30.0, 40.0])
        values = {"clip_coef": factor, "lr": lr, "lr_factor": lr_factor, "param_norms": norms}
        return Reading(step, np.array([norm, 0.0]), norm, **values)


class Spared(Driver):
    """The same, asked and told as little as is allowed."""

    def take(self, step, norm, lr):
        most = self.policy.leaves_alone_up_to(measured(self.run, norm, lr))
        if len(self.waiting) < PUT_OFF and norm <= most:
            self.waiting.append(self.reading(step, norm, lr))
            self.spared += 1
            if step % EVERY == 0:
                self.settle()
            return 1.0, 1.0
        self.settle()
        return super().take(step, norm, lr)


def walk(changes):
    """Norms that wander, and now and then leap up or fall."""
    level = 0.0
    for change in changes:
        level = max(-20.0, min(20.0, level + change)) if abs(change) < 1.0 else level
        yield math.exp(level + (change if abs(change) >= 1.0 else 0.0))


@patient
@given(KINDS, NORMS, RATES, BOUNDS, st.integers(1, 40), st.sampled_from([0, 7, 31]))
def test_asked_less_and_told_later_it_says_the_same(kind, changes, rates, bounds, hold, drops):
    slow, fast = Driver(*kind), Spared(*kind)
    for step, norm in enumerate(walk(changes)):
        lr = rates[step // hold % len(rates)]
        slow.policy.bound = fast.policy.bound = bounds[step // hold % len(bounds)]
        if drops and step % drops == 0:
            slow.drop(norm, lr)
            fast.drop(norm, lr)
        assert fast.take(step, norm, lr) == slow.take(step, norm, lr)
    fast.settle()
    assert fast.incidents == slow.incidents
    assert fast.run.policy.state_dict() == slow.run.policy.state_dict()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_healthy_run_of_sgd_is_spared_most_of_the_time(momentum):
    fast = Spared("sgd", momentum)
    for step in range(400):
        fast.take(step, 1.0 + 0.2 * math.sin(step * step), 1e-2)
    assert fast.spared > 250


@pytest.mark.parametrize("bound", [math.inf, 0.9, 0.1])
def test_a_healthy_run_of_adam_is_spared_nearly_always(bound):
    fast = Spared("adaptive")
    fast.policy.bound = bound
    for step in range(400):
        fast.take(step, 1.0 + 0.2 * math.sin(step * step), 1e-3 * 0.999**step)
    assert fast.spared > 300


@pytest.mark.parametrize("policy", [steady(), clip_norm(1.0), zclip()], ids=repr)
def test_a_policy_that_acts_on_ordinary_steps_is_always_asked(policy):
    run = Track(policy, kind="adaptive")
    run.run([1.0] * 100, 1e-3)
    assert policy.leaves_alone_up_to(measured(run, 1.0, 1e-3)) == -math.inf


def test_quiet_steps_make_no_run_hot():
    """Eight short reaches of 32 are a quarter, and one that pushes out another of them decides."""
    footing, span = Footing(), 1.0
    for reach in [0.05] * 68 + [0.36] * 24:
        footing.add(reach, reach)
    assert not footing.hot
    quiet = footing.least_slip_limit(span, 1.0)
    for _ in range(PUT_OFF):
        if quiet > 0.0:
            footing.add(min(quiet, 0.3333), min(quiet, 0.3333))
        assert not footing.hot
