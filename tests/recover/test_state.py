"""A copy put back is the state it was taken of, to the last bit."""

from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.workloads import MODELS, OPTIMIZERS, attach, batches, bits, mlp, outcome, seeded, train
from torch import nn

from steadygrad.policies import auto
from steadygrad.recover import rollback
from steadygrad.recover.random_states import plain, read_random_states, restore
from steadygrad.recover.state import TrainingState


class Held:
    """One optimizer, as recovery sees it."""

    def __init__(self, optimizer):
        self.policy = auto()
        self.optimizer = optimizer


def training(name, make=mlp):
    model = seeded(make)
    optimizer = OPTIMIZERS[name](model.parameters())
    return model, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_same_batches_lead_to_the_same_place_again(name, make):
    model, optimizer = training(name, make)
    state = TrainingState(model, [Held(optimizer)], rollback())
    stream = batches(12)
    train(model, optimizer, stream[:4])
    before, kept = outcome(model, optimizer), state.copy(state.live(), None)
    train(model, optimizer, stream[4:])
    after = outcome(model, optimizer)
    assert before != after
    for _ in range(2):
        state.put_back(kept)
        assert outcome(model, optimizer) == before
        train(model, optimizer, stream[4:])
        assert outcome(model, optimizer) == after


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_copy_from_before_the_first_step_makes_the_optimizer_begin_anew(name):
    model, optimizer = training(name)
    state = TrainingState(model, [Held(optimizer)], rollback())
    kept = state.copy(state.live(), None)
    train(model, optimizer, batches(5))
    first = outcome(model, optimizer)
    state.put_back(kept)
    train(model, optimizer, batches(5))
    assert outcome(model, optimizer) == first


def test_a_copy_reuses_the_memory_of_an_older_one():
    model, optimizer = training("Adam")
    state = TrainingState(model, [Held(optimizer)], rollback())
    train(model, optimizer, batches(2))
    first = state.copy(state.live(), None)
    places = {name: kept.host.data_ptr() for name, kept in first["params"].items()}
    train(model, optimizer, batches(2))
    second = state.copy(state.live(), first)
    assert places == {name: kept.host.data_ptr() for name, kept in second["params"].items()}
    assert bits([one.host for one in second["params"].values()]) == bits(list(model.parameters()))


def test_layouts_and_dtypes_survive():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)).to(memory_format=torch.channels_last)
    model[1].to(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = TrainingState(model, [Held(optimizer)], rollback())
    before, strides = bits(model.state_dict()), [one.stride() for one in model.parameters()]
    kept = state.copy(state.live(), None)
    with torch.no_grad():
        for param in model.parameters():
            param.fill_(math.nan)
    state.put_back(kept)
    assert bits(model.state_dict()) == before
    assert strides == [one.stride() for one in model.parameters()]


def test_average_and_scaler_go_back_and_the_scheduler_goes_on():
    model, optimizer = training("Adam")
    average = torch.optim.swa_utils.AveragedModel(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    plan = rollback(scaler=scaler, ema=average, scheduler=schedule)
    state = TrainingState(model, [Held(optimizer)], plan)
    scaler.scale(torch.ones(()))
    kept = state.copy(state.live(), None)
    assert kept["rest"]["schedulers"][0]["last_epoch"] == 0
    before = bits(average.state_dict())
    train(model, optimizer, batches(2))
    average.update_parameters(model)
    scaler._scale.fill_(0.5)
    schedule.step()
    state.put_back(kept)
    assert bits(average.state_dict()) == before
    assert scaler.get_scale() == 64.0
    assert optimizer.param_groups[0]["lr"] == 5e-4


def test_parameters_that_joined_or_left_since_are_left_alone():
    model, optimizer = training("Adam")
    state = TrainingState(model, [Held(optimizer)], rollback())
    train(model, optimizer, batches(2))
    kept = state.copy(state.live(), None)
    head = model[4] = nn.Linear(8, 1)
    extra = nn.Linear(1, 1)
    model.append(extra)
    optimizer.add_param_group({"params": extra.parameters()})
    fresh = bits(extra.state_dict())
    state.put_back(kept)
    assert bits(extra.state_dict()) == fresh
    assert model[4] is head


def test_random_states_survive_a_file(tmp_path):
    def draws():
        import random

        import numpy as np

        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()  # noqa: NPY002

    torch.save(plain(read_random_states()), tmp_path / "random.pt")
    first = draws()
    assert draws() != first
    restore(torch.load(tmp_path / "random.pt", weights_only=True))
    assert draws() == first


def test_a_guard_states_the_memory_it_takes():
    model, optimizer = training("Adam")
    guard = attach("guard", model, optimizer, recover=rollback(every=1))
    train(model, optimizer, batches(60))
    weights = sum(one.numel() * one.element_size() for one in model.parameters())
    assert 2 * 3 * weights <= guard._rescue.memory_bytes <= 2 * (3 * weights + 400)


def test_of_a_layer_that_was_replaced_since_no_state_comes_back():
    model, optimizer = training("Adam")
    state = TrainingState(model, [Held(optimizer)], rollback())
    train(model, optimizer, batches(5))
    kept = state.copy(state.live(), None)
    old, model[0] = model[0], nn.Linear(6, 8)
    optimizer.param_groups[0]["params"][:2] = model[0].parameters()
    for param in old.parameters():
        del optimizer.state[param]
    state.put_back(kept)
    # With the state of a parameter that isn't the optimizer's, torch can't say what it holds.
    assert set(optimizer.state_dict()["state"]) == {2, 3, 4, 5}
