"""Every step that an optimizer makes is seen once, with its gradients."""

from __future__ import annotations

import threading
from collections import OrderedDict

import pytest
import torch
from tests.stepping.steps import Calling, Log, closure_of, one_weight
from torch.optim import LBFGS, SGD, Adam

from steadygrad.stepping import StepHooks


def test_a_plain_step_is_seen_once_with_its_gradients():
    model, optimizer = one_weight()
    log = Log(optimizer)
    closure_of(model, optimizer)()
    optimizer.step()
    assert log.events == [(0, True), "stepped"]


@pytest.mark.parametrize("make", [SGD, Adam])
@pytest.mark.parametrize("how", ["positional", "keyword"])
def test_a_closure_is_seen_after_its_backward(make, how):
    model, optimizer = one_weight(make)
    log = Log(optimizer)
    closure = closure_of(model, optimizer)
    loss = optimizer.step(closure) if how == "positional" else optimizer.step(closure=closure)
    assert log.events == [(0, True), "stepped"]
    assert float(loss.detach()) > 0.0


@pytest.mark.parametrize("how", ["positional", "keyword"])
def test_none_in_place_of_a_closure_is_no_closure(how):
    model, optimizer = one_weight()
    log = Log(optimizer)
    closure_of(model, optimizer)()
    if how == "positional":
        optimizer.step(None)
    else:
        optimizer.step(closure=None)
    assert log.events == [(0, True), "stepped"]


def test_a_closure_evaluated_many_times_is_seen_each_time_in_one_step():
    model, optimizer = one_weight(LBFGS, max_iter=3)
    log = Log(optimizer)
    optimizer.step(closure_of(model, optimizer))
    evaluations = log.events[:-1]
    assert len(evaluations) > 1
    assert evaluations == [(i, True) for i in range(len(evaluations))]
    assert log.events[-1] == "stepped"


def test_a_closure_gets_its_arguments_and_returns_its_loss():
    class Passing(SGD):
        def step(self, closure=None):
            return closure(2, key=3)

    _, optimizer = one_weight(Passing)
    Log(optimizer)
    assert optimizer.step(lambda value, key: (value, key)) == (2, 3)


class CallingCalling(Calling):
    def step(self, closure=None):
        return super().step(closure)


@pytest.mark.parametrize("make", [Calling, CallingCalling])
@pytest.mark.parametrize("with_closure", [False, True])
def test_a_step_that_calls_super_counts_once(make, with_closure):
    model, optimizer = one_weight(make)
    log = Log(optimizer)
    closure = closure_of(model, optimizer)
    for _ in range(3):
        if with_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    assert log.events == [(0, True), "stepped"] * 3


def test_a_scheduler_on_top_changes_nothing():
    model, optimizer = one_weight()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    log = Log(optimizer)
    closure_of(model, optimizer)()
    optimizer.step()
    scheduler.step()
    assert log.events == [(0, True), "stepped"]


@pytest.mark.parametrize("from_a_thread", [False, True])
def test_a_checkpoint_in_the_middle_of_a_step_does_not_end_it(from_a_thread):
    model, optimizer = one_weight()
    log = Log(optimizer)

    def saving(*_):
        if from_a_thread:
            thread = threading.Thread(target=optimizer.state_dict)
            thread.start()
            thread.join()
        else:
            optimizer.state_dict()

    optimizer.register_step_pre_hook(saving)
    closure_of(model, optimizer)()
    optimizer.step()
    assert log.events == [(0, True), "stepped"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [SGD, Calling])
def test_compiled_step_is_seen(make):
    model, optimizer = one_weight(make)
    log = Log(optimizer)
    closure_of(model, optimizer)()
    step = torch.compile(optimizer.step, backend="eager")
    step()
    step()
    assert log.events == [(0, True), "stepped"] * 2


class Around(torch.optim.Optimizer):
    """As timm's Lookahead: it never calls the constructor, and has the hooks of a step alone."""

    def __init__(self, base):
        self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = OrderedDict(), OrderedDict()
        self.base, self.param_groups, self.defaults = base, base.param_groups, base.defaults
        self._patch_step_function()

    def step(self, closure=None):
        return self.base.step(closure)


def test_an_optimizer_that_hands_its_state_on_is_heard_and_left():
    model, base = one_weight()
    around = Around(base)
    log = Log(around)
    model(torch.ones(1, 2)).sum().backward()
    around.step()
    assert log.events == [(0, True), "stepped"]
    log.hooks.remove()
    assert not around._optimizer_step_pre_hooks
    assert not around._optimizer_step_post_hooks


def test_a_step_that_is_captured_is_left_alone_and_the_next_one_seen(monkeypatch):
    model, optimizer = one_weight()
    log, captured = Log(optimizer), []
    log.hooks.remove()
    hooks = StepHooks(
        optimizer,
        log.events.append,
        lambda: log.events.append("stepped"),
        lambda: log.events.append("abandoned"),
        lambda: captured.append(True),
    )
    closure_of(model, optimizer)()
    with monkeypatch.context() as context:
        context.setattr("steadygrad.stepping.hooks.is_capturing", lambda: True)
        optimizer.step()
        assert (log.events, captured) == ([], [True])
    optimizer.step()
    assert (log.events, captured) == ([0, "stepped"], [True])
    hooks.remove()


def test_the_beginning_of_the_outermost_step_is_told_with_its_closure():
    model, optimizer = one_weight(Calling)
    begun = []
    nothing = lambda *_: None  # noqa: E731
    StepHooks(optimizer, nothing, nothing, nothing, nothing, begun.append)
    closure = closure_of(model, optimizer)
    closure()
    optimizer.step()
    optimizer.step(None)
    optimizer.step(closure)
    optimizer.step(closure=closure)
    assert begun == [None, None, closure, closure]
