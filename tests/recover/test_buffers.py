"""Running statistics that a batch has ruined, where nothing puts them back."""

from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.workloads import CNN, attach, batches, poisoned, seeded
from torch import nn

from steadygrad.recover import rollback

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])
WITHOUT = [("watch", None), ("guard", None)]


class Training:
    def __init__(self, mode, recover=None, *, late=False, prepare=lambda model: None):
        self.model = seeded(CNN)
        prepare(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.monitor = attach(mode, self.model, self.optimizer, recover=recover, late=late)

    def go(self, steps, change=lambda batch: batch):
        for batch in batches(steps):
            self.optimizer.zero_grad()
            given = change(batch)
            nn.functional.mse_loss(self.model(given[0]), given[1]).backward()
            self.optimizer.step()

    @property
    def told(self):
        return [one for one in self.monitor.findings if any("running_" in name for name in one.where)]


@both_paths
@pytest.mark.parametrize("mode", ["watch", "guard"])
def test_ruined_statistics_are_told_once(mode, late):
    training = Training(mode, late=late)
    training.go(5)
    assert training.told == []
    training.go(1, poisoned)
    training.go(3)
    (found,) = training.told
    assert (found.kind, found.severity) == ("nonfinite_parameter", "error")
    assert 5 <= found.step <= 6
    assert found.where[:2] == ("body.1.running_mean", "body.1.running_var")
    assert "evaluation is broken" in found.summary
    assert any("reset_running_stats" in one.code for one in found.remedies)
    training.go(2, poisoned)
    assert len(training.told) == 1


@both_paths
def test_where_they_are_put_back_nothing_is_said(late):
    training = Training("guard", rollback(), late=late)
    training.go(5)
    training.go(1, poisoned)
    training.go(5)
    assert training.told == []
    assert all(bool(torch.isfinite(one).all()) for one in training.model.buffers())


@both_paths
@pytest.mark.parametrize("recover", [None, rollback()], ids=["without", "recovers"])
def test_statistics_of_a_ruined_checkpoint_are_told_at_once(recover, late):
    def ruin(model):
        model.body[4].running_var[0] = math.inf
        model.body[4].num_batches_tracked += 1000

    (found,) = Training("guard", recover, late=late, prepare=ruin).told
    assert (found.step, found.where) == (0, ("body.4.running_var",))


def test_a_mask_is_meant_to_be_infinite():
    def mask(model):
        model.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))

    training = Training("watch", prepare=mask)
    training.go(2, poisoned)
    assert all("mask" not in one.where for one in training.monitor.findings)


def test_a_healthy_run_is_never_looked_at_again(monkeypatch):
    training = Training("watch")
    monkeypatch.setattr(
        "steadygrad.recover.soundness.Inspection.nonfinite_now", lambda *given: pytest.fail("looked")
    )
    training.go(20)
    assert not training.monitor._logbook.faults


class Masked(nn.Module):
    """Makes its causal mask in the first forward pass, and fills in the mean of its data there."""

    def __init__(self, *, statistics=False):
        super().__init__()
        self.mask = None
        self.register_buffer("data_mean", torch.full((6,), math.nan))
        self.body = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(4) if statistics else nn.Identity()
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        if self.mask is None:
            del self.mask
            self.register_buffer("mask", torch.full((16, 16), -math.inf).triu(1), persistent=False)
            self.data_mean.copy_(x.mean(0))
        h = self.norm(self.body(x - self.data_mean))
        return self.head((h @ h.T + self.mask).softmax(-1) @ h)


def told_of(model, stream, mode="guard", recover=None, *, late=False):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = attach(mode, model, optimizer, recover=recover, late=late)
    for batch in stream:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(batch[0]), batch[1]).backward()
        optimizer.step()
    return [one for one in monitor.findings if set(one.where) & set(dict(model.named_buffers()))]


@both_paths
def test_a_mask_that_the_first_forward_makes_is_none_either(late):
    stream = batches(8)
    stream[4] = poisoned(stream[4])
    assert told_of(seeded(Masked), stream, late=late) == []


@both_paths
def test_beside_a_mask_ruined_statistics_are_told(late):
    stream = batches(10)
    stream[4] = poisoned(stream[4])
    (found,) = told_of(Masked(statistics=True), stream, late=late)
    assert found.where == ("norm.running_mean", "norm.running_var")


@both_paths
@pytest.mark.parametrize("mode", ["watch", "guard"])
@pytest.mark.parametrize("recover", [None, rollback()], ids=["without", "recovers"])
def test_a_nan_may_stand_for_what_is_not_set_yet(mode, recover, late):
    recover = recover if mode == "guard" else None
    assert told_of(seeded(Masked), batches(5), mode, recover, late=late) == []


@both_paths
def test_what_is_not_set_after_a_bad_step_either_is_told(late):
    stream = batches(4)
    (found,) = told_of(seeded(Masked), [poisoned(stream[0]), *stream[1:]], late=late)
    assert found.where == ("data_mean",)
    assert all("reset_running_stats" not in one.code for one in found.remedies)


@both_paths
def test_recovery_that_has_ended_puts_nothing_back(late):
    training = Training("guard", rollback(max_bytes=10), late=late)
    training.go(5)
    assert not training.monitor._rescue.is_on
    training.go(1, poisoned)
    training.go(3)
    assert len(training.told) == 1


@both_paths
def test_recovery_that_has_failed_puts_nothing_back(late, monkeypatch):
    training = Training("guard", rollback(), late=late)
    training.go(2)
    monkeypatch.setattr(training.monitor._rescue, "_trouble", None)
    training.go(2, poisoned)
    training.go(3)
    assert len(training.told) == 1


@pytest.mark.parametrize("mode", ["watch", "guard"])
def test_a_layer_that_has_no_shape_yet(mode):
    model = nn.Sequential(nn.Linear(6, 4), nn.LazyBatchNorm1d(), nn.Linear(4, 1))
    monitor = attach(mode, model, torch.optim.SGD(model[0].parameters(), lr=0.01))
    assert not monitor._logbook.faults
