"""Attached to a training whose state is ruined already: told at once, and no copy of it is gone back to."""

from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.workloads import OPTIMIZERS, attach, batches, mlp, seeded
from torch import nn

import steadygrad as sg
from steadygrad.errors import RecoveryFailed
from steadygrad.recover import rollback

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


def train(model, optimizer, steps):
    for batch in batches(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(batch[0]), batch[1]).backward()
        optimizer.step()


def begun(name="AdamW"):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 3)
    return model, optimizer


def corrupt(monitor):
    return [one for one in monitor.findings if one.kind == "optimizer_state_corrupt"]


@both_paths
@pytest.mark.parametrize("mode", ["watch", "guard"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("name", "moment"),
    [("AdamW", "exp_avg"), ("AdamW", "exp_avg_sq"), ("SGD momentum", "momentum_buffer"), ("LBFGS", "d")],
)
def test_a_moment_that_is_ruined_is_named_at_once(name, moment, value, mode, late):
    model = seeded(mlp)
    optimizer = OPTIMIZERS[name](model.parameters())
    if name == "LBFGS":
        where = "0.weight"  # it keeps everything with the first parameter
        optimizer.state[model[0].weight][moment] = torch.full((4,), value)
    else:
        where = "2.weight"
        train(model, optimizer, 3)
        optimizer.state[model[2].weight][moment][0, 0] = value
    monitor = attach(mode, model, optimizer, late=late)
    (found,) = corrupt(monitor)
    assert (found.severity, found.step, found.where) == ("error", 0, (where,))
    assert f"{moment} of {where}" in found.summary
    assert any("optimizer.state.clear()" in one.code for one in found.remedies)


def test_all_that_is_ruined_is_one_finding():
    model, optimizer = begun()
    for entries in optimizer.state.values():
        entries["exp_avg"].fill_(math.nan)
    (found,) = corrupt(sg.watch(model, optimizer))
    assert len(found.where) == 6
    assert "and 3 more" in found.summary


def test_a_step_counter_or_a_number_that_starts_at_infinity_is_no_moment():
    model, optimizer = begun()
    optimizer.state[model[0].weight]["lowest"] = torch.tensor(math.inf)
    assert sg.watch(model, optimizer).findings == ()


@both_paths
@pytest.mark.parametrize("name", ["AdamW", "SGD momentum"])
def test_recovery_does_not_go_back_to_the_cause(name, late):
    model, optimizer = begun(name)
    moment = "exp_avg" if name == "AdamW" else "momentum_buffer"
    optimizer.state[model[0].weight][moment][0, 0] = math.nan
    before = [param.detach().clone() for param in model.parameters()]
    guard = attach("guard", model, optimizer, recover=rollback(), late=late)
    with pytest.raises(RecoveryFailed) as stop:
        train(model, optimizer, 40)
    told = str(stop.value)
    assert "optimizer state of 0.weight" in told
    assert "make a new optimizer" in told
    assert "of one of torch's own, call optimizer.state.clear()" in told
    assert "learning rate" not in told
    assert guard.counts.rollbacks == 0
    assert guard.counts.steps < 12
    # What the user had, to begin anew with.
    assert all(torch.equal(param, old) for param, old in zip(model.parameters(), before, strict=True))


def test_a_state_that_is_mended_before_the_first_step_is_exempt_no_longer():
    model, optimizer = begun()
    model[0].weight.data[0, 0] = math.nan
    guard = attach("guard", model, optimizer, recover=rollback())
    model[0].weight.data[0, 0] = 0.1
    train(model, optimizer, 3)
    model[0].weight.data[0, 0] = math.nan
    train(model, optimizer, 12)
    assert guard.counts.rollbacks == 1
    assert bool(torch.isfinite(model[0].weight).all())


@both_paths
def test_weights_that_are_ruined_are_not_gone_back_to(late):
    model, optimizer = begun()
    model[0].weight.data[0, 0] = math.nan
    guard = attach("guard", model, optimizer, recover=rollback(), late=late)
    with pytest.raises(RecoveryFailed) as stop:
        train(model, optimizer, 40)
    assert "0.weight" in str(stop.value)
    assert "learning rate" not in str(stop.value)
    assert guard.counts.rollbacks == 0


@both_paths
def test_other_trouble_is_still_gone_back_from(late):
    model, optimizer = begun()
    model[0].unused = nn.Linear(2, 2)
    optimizer.add_param_group({"params": list(model[0].unused.parameters())})
    optimizer.state[model[0].unused.weight]["exp_avg"] = torch.full((2, 2), math.nan)
    guard = attach("guard", model, optimizer, recover=rollback(), late=late)
    train(model, optimizer, 3)
    model[0].weight.data[0, 0] = math.nan
    train(model, optimizer, 12)
    assert guard.counts.rollbacks == 1
    assert bool(torch.isfinite(model[0].weight).all())


class Lookup(nn.Module):
    """Rows of an embedding, of which the last is never looked up, and a parameter that nobody uses."""

    def __init__(self):
        super().__init__()
        self.rows, self.head = nn.Embedding(10, 4), nn.Linear(4, 1)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, index):
        return self.head(self.rows(index))


def look_up(model, optimizer, losses_are_bad):
    generator = torch.Generator().manual_seed(3)
    for is_bad in losses_are_bad:
        optimizer.zero_grad()
        loss = model(torch.randint(0, 9, (16,), generator=generator)).square().mean()
        (loss * math.nan if is_bad else loss).backward()
        optimizer.step()


def make_unused_nan(model):
    model.unused.data.fill_(math.nan)


def make_a_row_nan(model):
    model.rows.weight.data[9] = math.nan


@both_paths
@pytest.mark.parametrize("ruin", [make_unused_nan, make_a_row_nan])
def test_what_the_steps_before_did_without_is_not_the_cause_of_a_streak(ruin, late):
    model = seeded(Lookup)
    ruin(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    guard = attach("guard", model, optimizer, recover=rollback(), late=late)
    look_up(model, optimizer, [3 <= step < 11 for step in range(30)])
    assert guard.counts.rollbacks == 1
    assert guard.counts.steps >= 30 - 8


@both_paths
def test_a_streak_from_the_first_step_on_is_laid_at_it(late):
    model = seeded(Lookup)
    make_a_row_nan(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    guard = attach("guard", model, optimizer, recover=rollback(), late=late)
    with pytest.raises(RecoveryFailed, match=r"rows\.weight"):
        look_up(model, optimizer, [True] * 20)
    assert guard.counts.rollbacks == 0


class TestInf:
    @pytest.mark.parametrize("name", ["lowest", "running_minimum"])
    def test_is_where_a_minimum_begins(self, name):
        model, optimizer = begun()
        optimizer.state[model[0].weight][name] = torch.full((8, 6), math.inf)
        assert sg.watch(model, optimizer).findings == ()

    @both_paths
    def test_beside_a_nan_excuses_nothing(self, late):
        model, optimizer = begun()
        lowest = optimizer.state[model[0].weight]["lowest"] = torch.full((8, 6), math.inf)
        lowest[1, 1] = math.nan
        (found,) = corrupt(attach("watch", model, optimizer, late=late))
        assert "lowest of 0.weight" in found.summary
