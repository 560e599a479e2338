"""Faults put into real trainings, on the host's path and on the accelerator's: what recovery does about them."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import weakref

import pytest
import torch
from tests.monitor.workloads import (
    MODELS,
    OPTIMIZERS,
    attach,
    batches,
    mlp,
    outcome,
    poisoned,
    seeded,
    step,
    train,
)
from tests.recover.runs import FAULT_AT, Run, both_paths
from torch import nn

import steadygrad as sg
from steadygrad.errors import NonfiniteStreak, RecoveryFailed
from steadygrad.recover import rollback


def flip(tensor, bit=30):
    """Flip one bit of the element nearest to zero."""
    flat = tensor.detach().view(-1)
    flat.view(torch.int32)[flat.abs().argmin()] ^= 1 << bit


@both_paths
@pytest.mark.parametrize("name", ["SGD momentum", "Adam", "RMSprop"])
def test_weights_that_are_nan_go_back_to_the_last_good_state(name, late):
    run = Run(name=name, late=late)
    run.go(FAULT_AT)
    run.model[2].weight.data[0, 0] = math.nan
    run.go(60)
    assert run.is_finite()
    assert run.guard.counts.rollbacks == 1
    assert run.guard.counts.skipped <= 3
    assert "1 rollback" in run.guard.summary()


@both_paths
@pytest.mark.parametrize("name", ["SGD momentum", "AdamW"])
def test_a_bit_flipped_in_a_weight(name, late):
    run = Run(name=name, late=late)
    usual = run.go(FAULT_AT)[-1]
    flip(run.model[2].weight)
    assert run.go(60)[-1] < 3 * usual
    assert run.guard.counts.rollbacks == 1


@both_paths
def test_a_bit_flipped_in_adams_first_moment(late):
    run = Run(name="Adam", late=late)
    usual = run.go(FAULT_AT)[-1]
    flip(run.optimizer.state[run.model[2].weight]["exp_avg"])
    assert run.go(60)[-1] < 3 * usual
    assert run.guard.counts.rollbacks >= 1
    assert run.is_finite()


@both_paths
def test_moments_that_contradict_each_other_are_found_before_they_do_harm(late):
    run = Run(name="Adam", late=late)
    run.go(FAULT_AT)
    run.optimizer.state[run.model[2].weight]["exp_avg_sq"][0, 0] = math.inf
    run.go(60)
    assert run.is_finite()
    assert [f.kind for f in run.guard.findings if f.severity == "error"] == ["optimizer_state_corrupt"]


def test_each_attempt_changes_more_and_the_last_one_stops():
    run = Run(log=True, plan=rollback(every=10, max_rollbacks=4))
    run.go(FAULT_AT)
    rates, caps = [], []
    for _ in range(4):
        run.model[2].weight.data[0, 0] = math.nan
        run.go(3)
        rates.append(run.guard._tracks[0].brake.rate)
        caps.append(run.guard._tracks[0].brake.max_norm)
    run.model[2].weight.data[0, 0] = math.nan
    with pytest.raises(RecoveryFailed, match="4 rollbacks in a row"):
        run.go(3)
    assert rates == pytest.approx([1.0, 1.0, 0.5, 0.25], rel=0.05)
    assert caps[0] == math.inf
    assert caps[1] < math.inf
    assert run.is_finite()


def test_what_was_held_back_is_let_go_again():
    run = Run(name="SGD")
    run.go(FAULT_AT)
    for _ in range(4):
        run.model[2].weight.data[0, 0] = math.nan
        run.go(3)
    rates = []
    schedule = torch.optim.lr_scheduler.ExponentialLR(run.optimizer, 0.999)
    for _ in range(250):
        run.go(1)
        schedule.step()
        rates.append(run.guard.last.lr_factor)
    assert rates[0] == pytest.approx(0.25, rel=0.05)
    assert rates == sorted(rates)
    assert rates[-1] == 1.0
    assert not run.guard._tracks[0].brake.on
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.999**250)


@both_paths
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_healthy_run_is_the_same_to_the_last_bit(name, late):
    plain = seeded(MODELS["CNN"])
    without = OPTIMIZERS[name](plain.parameters())
    run = Run(MODELS["CNN"], name, late=late, plan=rollback(every=1))
    stream = batches(40)
    assert train(plain, without, stream) == train(run.model, run.optimizer, stream)
    assert outcome(plain, without) == outcome(run.model, run.optimizer)
    assert run.rescue.snapshots > 0
    assert not run.guard._logbook.faults


def test_bad_input_is_skipped_and_costs_no_step_that_was_made():
    run = Run()
    run.go(FAULT_AT)
    run.go(8, poisoned)
    run.go(5)
    assert run.guard.counts.skipped == 8
    assert run.guard.counts.rollbacks == 0


def test_a_streak_that_ends_the_run_doesnt_claim_what_isnt_so():
    run = Run()
    run.go(FAULT_AT)
    with pytest.raises(NonfiniteStreak, match="Going back to the weights of step"):
        run.go(20, lambda batch: (batch[0], batch[1] * math.nan))


def test_two_optimizers_go_back_together():
    model = seeded(lambda: nn.ModuleDict({"g": mlp(), "d": mlp()}))
    both = [torch.optim.Adam(model[part].parameters(), lr=1e-3) for part in "gd"]
    guard = attach("guard", model, both, recover=rollback(every=10))
    stream = iter(batches(300))

    def go(steps):
        for _ in range(steps):
            for part, optimizer in zip("gd", both, strict=True):
                step(model[part], optimizer, next(stream))

    go(FAULT_AT)
    model["d"][2].weight.data[0, 0] = math.nan
    go(40)
    assert guard.counts.rollbacks == 1
    assert all(param.isfinite().all() for param in model.parameters())
    assert {int(entry["step"]) for one in both for entry in one.state.values()} < set(range(60, 101))


def test_looking_at_the_guard_moves_no_weight_between_forward_and_backward():
    run = Run(late=True)
    run.go(FAULT_AT)
    run.model[2].weight.data[0, 0] = math.nan
    run.go(2)
    batch = next(run.stream)
    run.optimizer.zero_grad()
    loss = nn.functional.mse_loss(run.model(batch[0]), batch[1])
    assert run.guard.summary()
    loss.backward()
    run.optimizer.step()
    run.go(3)
    assert run.is_finite()


def test_a_state_too_large_for_the_memory_allowed_is_not_copied(capfd):
    run = Run(plan=rollback(max_bytes=100))
    run.go(20)
    assert "no recovery: two copies of the training's state take" in capfd.readouterr().err
    assert run.guard.counts.rollbacks == 0


def test_a_guard_goes_back_unless_told_not_to():
    model, optimizer = seeded(mlp), None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with sg.guard(model, optimizer) as guard:
        assert guard._rescue is not None
    with sg.guard(model, optimizer, recover=False) as guard:
        assert guard._rescue is None


def test_recovery_where_it_cant_be_had():
    model = seeded(mlp)
    with pytest.raises(sg.errors.UsageError, match="without an optimizer"):
        sg.guard(model, recover=True)
    with sg.guard(model) as guard:
        assert guard._rescue is None


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"every": 0}, "every=0"),
        ({"max_rollbacks": 1.5}, "max_rollbacks=1.5"),
        ({"loader": [1]}, "expected an object with state_dict"),
        ({"scheduler": 3}, "expected schedulers with state_dict"),
        ({"ema": {"a": 1}}, "expected a module"),
    ],
)
def test_arguments_that_cant_be_used(arguments, match):
    with pytest.raises(sg.errors.UsageError, match=match):
        rollback(**arguments)


def test_a_guarded_model_can_be_copied_pickled_and_let_go():
    run = Run()
    run.go(30)
    assert copy.deepcopy(run.model) is not None
    assert pickle.loads(pickle.dumps(run.model)) is not None
    gone = weakref.ref(run.model)
    del run
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_checkpoint_that_is_loaded_makes_earlier_copies_void(part):
    run = Run(log=True)
    run.go(FAULT_AT)
    other = seeded(mlp, 7)
    if part == "model":
        run.model.load_state_dict(other.state_dict())
    else:
        with torch.no_grad():
            for param, new in zip(run.model.parameters(), other.parameters(), strict=True):
                param.copy_(new)
        run.optimizer.load_state_dict(run.optimizer.state_dict())
    loaded = [one.detach().clone() for one in other.parameters()]
    run.go(1)
    run.model[0].weight.data[0, 0] = math.nan
    run.go(2)
    assert run.rescue.rollbacks == 1
    for param, new in zip(run.model.parameters(), loaded, strict=True):
        assert torch.equal(param, new)


def test_a_ruined_checkpoint_is_not_trusted():
    run = Run()
    run.go(FAULT_AT)
    ruined = {name: one * math.nan for name, one in run.model.state_dict().items()}
    run.model.load_state_dict(ruined)
    run.go(3)
    assert run.is_finite()
