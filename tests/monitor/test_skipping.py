"""A non-finite step is left out whole: the training goes on as if that batch had never come."""

from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.workloads import (
    MODELS,
    OPTIMIZERS,
    attach,
    batches,
    bits,
    mlp,
    outcome,
    poisoned,
    seeded,
    step,
    train,
    weights,
)
from torch import nn

from steadygrad.errors import NonfiniteStreak, TrainingStopped, UsageError
from steadygrad.policies import clip_norm

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


def stream_with_poison(value=math.nan):
    stream = batches(8)
    return [*stream[:3], poisoned(stream[3], value), poisoned(stream[4], value), *stream[3:]]


@both_paths
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_equals_one_in_which_the_batch_never_existed(name, late):
    plain, guarded = seeded(mlp), seeded(mlp)
    without, optimizer = OPTIMIZERS[name](plain.parameters()), OPTIMIZERS[name](guarded.parameters())
    guard = attach("guard", guarded, optimizer, late=late)
    train(plain, without, batches(8))
    train(guarded, optimizer, stream_with_poison())
    assert outcome(guarded, optimizer) == outcome(plain, without)
    assert guard.last is not None
    assert guard.counts.skipped == 2
    assert guard.counts.steps == 10


@both_paths
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_poisoned_first_step_leaves_nothing_behind(name, late):
    plain, guarded = seeded(mlp), seeded(mlp)
    without, optimizer = OPTIMIZERS[name](plain.parameters()), OPTIMIZERS[name](guarded.parameters())
    attach("guard", guarded, optimizer, late=late)
    stream = batches(4)
    train(plain, without, stream)
    step(guarded, optimizer, poisoned(stream[0], math.inf))
    if name.startswith("SGD"):
        assert optimizer.state_dict()["state"] == {}
    train(guarded, optimizer, stream)
    assert outcome(guarded, optimizer) == outcome(plain, without)


@both_paths
@pytest.mark.parametrize("model", ["CNN", "LSTM"])
def test_weights_stay_as_they_were_in_other_architectures(model, late):
    guarded = seeded(MODELS[model])
    optimizer = OPTIMIZERS["AdamW"](guarded.parameters())
    guard = attach("guard", guarded, optimizer, late=late)
    train(guarded, optimizer, batches(2))
    before, state = weights(guarded), bits(optimizer.state_dict())
    step(guarded, optimizer, poisoned(batches(1)[0]))
    assert weights(guarded) == before
    assert bits(optimizer.state_dict()) == state
    assert guard.last.skipped
    assert not math.isfinite(guard.last.total_norm)


@both_paths
@pytest.mark.parametrize("name", ["SGD momentum", "AdamW fused"])
def test_gradients_are_back_after_a_skip(name, late):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    attach("guard", model, optimizer, late=late)
    train(model, optimizer, batches(2))
    step(model, optimizer, poisoned(batches(1)[0]))
    assert all(param.grad is not None and param.grad.isnan().any() for param in model.parameters())


@both_paths
def test_only_the_poisoned_tensor_is_named(late):
    model = seeded(mlp)
    optimizer = OPTIMIZERS["SGD momentum"](model.parameters())
    guard = attach("guard", model, optimizer, late=late)
    train(model, optimizer, batches(2))
    model(batches(1)[0][0]).sum().backward()
    model[2].weight.grad[0, 0] = math.nan
    before = weights(model)
    optimizer.step()
    assert weights(model) == before
    (finding,) = [f for f in guard.findings if f.kind == "nonfinite_gradient"]
    assert finding.where == ("2.weight",)
    assert finding.step == 2
    assert guard.last.nonfinite.tolist() == [False, False, True, False, False, False]


def test_an_lbfgs_step_poisoned_in_a_later_evaluation_is_taken_back():
    plain, guarded = seeded(mlp), seeded(mlp)
    make = OPTIMIZERS["LBFGS"]
    without, optimizer = make(plain.parameters()), make(guarded.parameters())
    guard = attach("guard", guarded, optimizer)
    stream = batches(4)
    train(plain, without, stream[:2])
    train(guarded, optimizer, stream[:2])
    calls = []

    def closure():
        calls.append(None)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(guarded(stream[2][0]), stream[2][1])
        loss = loss * math.nan if len(calls) == 2 else loss
        loss.backward()
        return loss

    optimizer.step(closure)
    assert len(calls) >= 2
    assert outcome(guarded, optimizer) == outcome(plain, without)
    assert guard.last.skipped
    assert guard.counts.skipped == 1
    train(plain, without, stream[2:])
    train(guarded, optimizer, stream[2:])
    assert outcome(guarded, optimizer) == outcome(plain, without)


@pytest.mark.parametrize("make_grads", ["inf", "nan"])
def test_fused_sgd_skipping_its_first_step_keeps_its_momentum_finite(make_grads):
    """torch 2.13 allocates the buffer uninitialised and a skipping kernel leaves it so."""
    for seed in range(5):
        model = seeded(lambda: nn.Linear(200, 200), seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
        attach("guard", model, optimizer, clip_norm(1.0), late=True)
        junk = [torch.full((200, 200), 1e30) for _ in range(8)]
        del junk  # memory that the allocator hands out next
        for value in (float(make_grads), 1e-3, 1e-3):
            for param in model.parameters():
                param.grad = torch.full_like(param, value)
            optimizer.step()
        assert all(param.abs().max() < 2.0 for param in model.parameters())


class TestStreak:
    @both_paths
    def test_the_run_stops_with_an_error_that_explains(self, late):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        attach("guard", model, optimizer, late=late, max_skips=3)
        train(model, optimizer, batches(2))
        before = weights(model)
        with pytest.raises(NonfiniteStreak) as caught:
            train(model, optimizer, map(poisoned, batches(5)))
        assert isinstance(caught.value, TrainingStopped)
        text = str(caught.value)
        assert "stopped at step 4: 3 optimizer steps in a row" in text
        assert "the first at step 2" in text
        assert "in 4.bias, 4.weight" in text
        assert "max_consecutive_skips" in text
        assert weights(model) == before

    def test_one_healthy_step_begins_the_count_again(self):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        guard = attach("guard", model, optimizer, max_skips=2)
        for batch in batches(6):
            step(model, optimizer, poisoned(batch))
            step(model, optimizer, batch)
        assert guard.counts.skipped == 6

    def test_without_a_limit_it_goes_on(self):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        guard = attach("guard", model, optimizer, max_skips=None)
        before = weights(model)
        for _ in range(40):
            step(model, optimizer, poisoned(batches(1)[0]))
        assert guard.counts.skipped == 40
        assert weights(model) == before

    @pytest.mark.parametrize("value", [0, -1, 1.5, True, "10"])
    def test_a_limit_that_makes_no_sense_is_an_error(self, value):
        import steadygrad as sg

        model = mlp()
        with pytest.raises(UsageError, match="max_consecutive_skips"):
            sg.guard(model, OPTIMIZERS["SGD"](model.parameters()), max_consecutive_skips=value)

    @both_paths
    def test_closing_after_a_streak_finishes_the_job(self, late):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        guard = attach("guard", model, optimizer, late=late, max_skips=2)
        with pytest.raises(NonfiniteStreak):
            train(model, optimizer, map(poisoned, batches(4)))
        guard.close()
        assert guard.closed
        assert not optimizer._optimizer_step_pre_hooks

    def test_closing_never_raises_for_what_was_still_under_way(self):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        guard = attach("guard", model, optimizer, late=True, max_skips=2)
        for _ in range(2):
            step(model, optimizer, poisoned(batches(1)[0]))
        guard.close()
        assert guard.counts.skipped == 2
        assert not optimizer._optimizer_step_pre_hooks


class TestNotice:
    def test_a_skip_is_shown_at_once_in_one_line_and_then_held_back(self, capsys):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        guard = attach("guard", model, optimizer, max_skips=None)
        step(model, optimizer, poisoned(batches(1)[0]))
        shown = [line for line in capsys.readouterr().err.splitlines() if "skipped, non-finite" in line]
        assert shown == [
            "steadygrad: step 0: skipped, non-finite gradient in 4.bias, 4.weight, 2.bias and 3 more"
        ]
        for _ in range(20):
            step(model, optimizer, poisoned(batches(1)[0]))
        assert capsys.readouterr().err.count("skipped, non-finite") == 0
        guard.close()
        assert "step 20: skipped" in capsys.readouterr().err

    def test_a_healthy_run_says_nothing(self, capsys):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        with attach("guard", model, optimizer):
            train(model, optimizer, batches(5))
        assert capsys.readouterr().err == ""
