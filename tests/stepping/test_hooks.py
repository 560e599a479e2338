from __future__ import annotations

import gc
import threading
import weakref
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adam

from steadygrad.stepping import StepHooks


class Log:
    """What the hooks reported, and whether gradients were there when they said so."""

    def __init__(self, optimizer):
        self.events = []
        params = [param for group in optimizer.param_groups for param in group["params"]]
        self.hooks = StepHooks(
            optimizer,
            lambda evaluation: self.events.append((evaluation, params[0].grad is not None)),
            lambda: self.events.append("stepped"),
            lambda: self.events.append("abandoned"),
        )


def one_weight(make=SGD, **options):
    model = nn.Linear(2, 1)
    optimizer = make(model.parameters(), **{"lr": 0.1, **options})
    return model, optimizer


def closure_of(model, optimizer, scale=1.0):
    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(1, 2)).square().sum() * scale
        loss.backward()
        return loss

    return closure


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


class Calling(SGD):
    def step(self, closure=None):
        return super().step(closure)


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


class Raising(Calling):
    raising = False

    def step(self, closure=None):
        loss = super().step(closure)
        if self.raising:
            raise RuntimeError("the user's own")
        return loss


@pytest.mark.parametrize("times", [1, 3])
def test_a_step_that_raised_is_abandoned_and_the_next_counts_as_usual(times):
    model, optimizer = one_weight(Raising)
    log = Log(optimizer)
    closure_of(model, optimizer)()
    for _ in range(times):
        optimizer.raising = True
        with pytest.raises(RuntimeError, match="the user's own"):
            optimizer.step()
    optimizer.raising = False
    optimizer.step()
    optimizer.step()
    seen = [(0, True)] + ["abandoned", (0, True)] * times + ["stepped", (0, True), "stepped"]
    assert log.events == seen


def test_a_closure_that_raises_is_abandoned_at_the_next_step():
    model, optimizer = one_weight(Calling)
    log = Log(optimizer)

    def broken():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        optimizer.step(broken)
    optimizer.step(closure_of(model, optimizer))
    assert log.events == ["abandoned", (0, True), "stepped"]


def test_a_step_retried_inside_the_handler_of_its_own_error():
    model, optimizer = one_weight(Raising)
    log = Log(optimizer)
    closure_of(model, optimizer)()
    optimizer.raising = True
    try:
        optimizer.step()
    except RuntimeError:
        optimizer.raising = False
        optimizer.step()
    assert log.events == [(0, True), "abandoned", (0, True), "stepped"]


def test_a_scheduler_on_top_changes_nothing():
    model, optimizer = one_weight()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    log = Log(optimizer)
    closure_of(model, optimizer)()
    optimizer.step()
    scheduler.step()
    assert log.events == [(0, True), "stepped"]


def test_removing_leaves_no_hook_and_may_be_repeated():
    _, optimizer = one_weight()
    log = Log(optimizer)
    log.hooks.remove()
    log.hooks.remove()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    optimizer.step()
    assert log.events == []


@pytest.mark.parametrize("others", ["none", "before", "after"])
def test_a_step_under_way_is_finished_before_the_hooks_are_gone(others):
    model, optimizer = one_weight()
    if others == "before":
        optimizer.register_step_pre_hook(lambda *_: None)
        optimizer.register_step_post_hook(lambda *_: None)
    log = Log(optimizer)
    if others == "after":
        optimizer.register_step_pre_hook(lambda *_: None)
        optimizer.register_step_post_hook(lambda *_: None)
    closure = closure_of(model, optimizer)

    def closing():
        log.hooks.remove()
        return closure()

    optimizer.step(closing)
    optimizer.step(closure)
    optimizer.step(closure)
    assert log.events == [(0, True), "stepped"]
    count = 0 if others == "none" else 1
    assert len(optimizer._optimizer_step_pre_hooks) == count
    assert others == "after" or len(optimizer._optimizer_step_post_hooks) == count


@pytest.mark.parametrize("register", ["register_step_pre_hook", "register_step_post_hook"])
@pytest.mark.parametrize("first", [True, False])
def test_removing_from_a_hook_of_the_users_own_raises_nothing(register, first):
    model, optimizer = one_weight()
    held = []
    if first:
        handle = getattr(optimizer, register)(lambda *_: held[0].hooks.remove())
    held.append(Log(optimizer))
    if not first:
        handle = getattr(optimizer, register)(lambda *_: held[0].hooks.remove())
    closure_of(model, optimizer)()
    optimizer.step()
    before = list(held[0].events)
    handle.remove()
    optimizer.step()
    optimizer.step()
    assert held[0].events == before
    assert before in ([], [(0, True), "stepped"])
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_removing_after_a_step_that_raised_takes_the_hooks_off_at_once():
    model, optimizer = one_weight(Raising)
    log = Log(optimizer)
    closure_of(model, optimizer)()
    optimizer.raising = True
    with pytest.raises(RuntimeError):
        optimizer.step()
    log.hooks.remove()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_state_dict_pre_hooks


def test_a_checkpoint_after_a_step_that_raised_comes_after_it_is_abandoned():
    model, optimizer = one_weight(Raising)
    log = Log(optimizer)
    closure_of(model, optimizer)()
    optimizer.state_dict()
    optimizer.raising = True
    with pytest.raises(RuntimeError):
        optimizer.step()
    optimizer.state_dict()
    optimizer.raising = False
    optimizer.step()
    assert log.events == [(0, True), "abandoned", (0, True), "stepped"]


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


def test_an_optimizer_that_nobody_holds_is_collected():
    model, optimizer = one_weight()
    log = Log(optimizer)
    closure_of(model, optimizer)()
    optimizer.step()
    gone = weakref.ref(optimizer)
    del optimizer, model, log
    gc.collect()
    assert gone() is None


def test_a_step_that_raised_does_not_keep_its_callers_alive():
    class Batch:
        pass

    model, optimizer = one_weight(Raising)
    log = Log(optimizer)
    closure_of(model, optimizer)()
    optimizer.raising = True

    def training():
        batch = Batch()
        held = weakref.ref(batch)
        with pytest.raises(RuntimeError):
            optimizer.step()
        return held

    held = training()
    gc.collect()
    assert held() is None
    assert log.events == [(0, True)]


class CatchingInside(Calling):
    def step(self, closure=None):
        broken = [True]

        def breaking():
            if broken.pop():
                raise KeyError("first try")

        try:
            super().step(breaking)
        except KeyError:
            return super().step(closure)


def test_an_inner_step_that_raised_and_was_caught_stays_inside_the_outer_one():
    model, optimizer = one_weight(CatchingInside)
    log = Log(optimizer)
    closure_of(model, optimizer)()
    optimizer.step()
    optimizer.step()
    assert log.events == [(0, True), "stepped"] * 2


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_that_raised_is_abandoned():
    model, optimizer = one_weight(Raising)
    log = Log(optimizer)
    closure_of(model, optimizer)()
    step = torch.compile(optimizer.step, backend="eager")
    optimizer.raising = True
    with pytest.raises(RuntimeError, match="the user's own"):
        step()
    optimizer.raising = False
    step()
    assert log.events == [(0, True), "abandoned", (0, True), "stepped"]


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
