from __future__ import annotations

import gc

import pytest
import torch
from tests.monitor.workloads import OPTIMIZERS, batches, mlp, outcome, seeded, train

from steadygrad.stepping import StepUndo, moves_while_evaluating


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_lbfgs_moves_while_it_evaluates(name):
    optimizer = OPTIMIZERS[name](mlp().parameters())
    assert moves_while_evaluating(optimizer) == name.startswith("LBFGS")


@pytest.mark.parametrize("name", ["LBFGS", "LBFGS strong_wolfe", "AdamW", "SGD momentum"])
@pytest.mark.parametrize("steps_before", [0, 3])
def test_weights_and_state_are_taken_back_to_the_bit(name, steps_before):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, batches(steps_before))
    undo = StepUndo(optimizer)
    before = outcome(model, optimizer)
    undo.remember()
    train(model, optimizer, batches(2, seed=5))
    assert outcome(model, optimizer) != before
    undo.take_back()
    assert outcome(model, optimizer) == before
    train(model, optimizer, batches(1))


def test_taking_back_without_remembering_does_nothing():
    model = seeded(mlp)
    optimizer = OPTIMIZERS["LBFGS"](model.parameters())
    train(model, optimizer, batches(2))
    before = outcome(model, optimizer)
    undo = StepUndo(optimizer)
    undo.take_back()
    undo.remember()
    undo.forget()
    undo.take_back()
    assert outcome(model, optimizer) == before


def test_a_nonfinite_weight_is_overwritten():
    model = seeded(mlp)
    optimizer = OPTIMIZERS["LBFGS"](model.parameters())
    undo = StepUndo(optimizer)
    undo.remember()
    before = outcome(model, optimizer)
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    undo.take_back()
    assert outcome(model, optimizer) == before


def test_an_optimizer_that_is_gone_is_no_fault():
    model = seeded(mlp)
    optimizer = OPTIMIZERS["LBFGS"](model.parameters())
    undo = StepUndo(optimizer)
    del optimizer
    gc.collect()
    undo.remember()
    undo.take_back()


def test_the_history_is_not_copied_and_still_taken_back():
    model = seeded(mlp)
    optimizer = OPTIMIZERS["LBFGS"](model.parameters())
    train(model, optimizer, batches(3))
    (state,) = optimizer.state.values()
    kept = list(state["old_dirs"])
    undo, before = StepUndo(optimizer), outcome(model, optimizer)
    undo.remember()
    train(model, optimizer, batches(3, seed=5))
    undo.take_back()
    (state,) = optimizer.state.values()
    assert all(a is b for a, b in zip(state["old_dirs"], kept, strict=True))
    assert outcome(model, optimizer) == before
