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
