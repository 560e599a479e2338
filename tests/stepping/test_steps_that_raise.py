"""A step that raised is abandoned, once, and the next one counts as usual."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from tests.stepping.steps import Calling, Log, Raising, closure_of, one_weight


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
