"""The hooks of a step come off, at any moment, and hold nobody."""

from __future__ import annotations

import gc
import weakref

import pytest
from tests.stepping.steps import Log, Raising, closure_of, one_weight


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


def test_an_optimizer_that_nobody_holds_is_collected():
    model, optimizer = one_weight()
    log = Log(optimizer)
    closure_of(model, optimizer)()
    optimizer.step()
    gone = weakref.ref(optimizer)
    del optimizer, model, log
    gc.collect()
    assert gone() is None
