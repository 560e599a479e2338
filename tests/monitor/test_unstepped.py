"""Losses that aren't finite, of which no step comes: a GradScaler leaves it out, or the loop does."""

from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.workloads import CNN, attach, batches, mlp, poisoned, seeded
from torch import nn

from steadygrad.monitor import Monitor

GOOD = batches(1)[0]
BAD = poisoned(GOOD)


class Loop:
    """A training under a GradScaler that leaves the step out by itself, and logs its loss."""

    def __init__(self, mode="guard", make=mlp, *, clear=True, before=False, fused=False):
        self.model = seeded(make)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=fused)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        self.monitor: Monitor = attach(mode, self.model, self.optimizer)
        self.clear = clear
        self.before = before

    def backward(self, batch):
        loss = nn.functional.mse_loss(self.model(batch[0]), batch[1])
        if self.before:
            self.monitor.log(loss=loss)
        self.scaler.scale(loss).backward()
        return loss

    def step(self, batch):
        self.optimizer.zero_grad(set_to_none=self.clear)
        loss = self.backward(batch)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if not self.before:
            self.monitor.log(loss=loss)

    @property
    def told(self):
        return [one for one in self.monitor.findings if one.kind.startswith("nonfinite_")]


@pytest.mark.parametrize("mode", ["watch", "guard"])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("healthy", [0, 7])
@pytest.mark.parametrize("make", [mlp, CNN])
def test_a_nan_in_every_batch_is_told_once(mode, make, before, healthy):
    loop = Loop(mode, make, before=before)
    for _ in range(healthy):
        loop.step(GOOD)
    for _ in range(2):
        loop.step(BAD)
    assert loop.told == []
    for _ in range(20):
        loop.step(BAD)
    (found,) = loop.told
    assert (found.kind, found.severity, found.step) == ("nonfinite_loss", "error", healthy)
    assert found.evidence["losses"] == 3.0
    assert "no step has come" in found.summary
    assert "the loop, or a GradScaler, leaves such steps out" in found.summary
    assert f"{mode}.left_out(optimizer) has them counted" in found.summary
    # A graph that is pending may have saved the buffers that a replay writes to.
    assert ("batch" in found.summary) == (make is mlp or not before)
    assert loop.monitor.counts.steps == healthy


def test_bursts_are_told_once_until_many_steps_have_passed(monkeypatch):
    monkeypatch.setattr("steadygrad.tracing.unstepped.AGAIN", 12)
    loop = Loop()
    for _ in range(5):
        for batch in [GOOD, BAD, BAD, BAD, BAD, GOOD, GOOD, GOOD]:
            loop.step(batch)
    assert [(one.step, one.severity) for one in loop.told] == [(1, "error"), (13, "warning")]


def test_a_burst_that_the_run_is_known_to_survive_is_a_warning():
    loop = Loop()
    for batch in [GOOD] * 4 + [BAD] + [GOOD] * 5 + [BAD] * 3 + [GOOD]:
        loop.step(batch)
    assert [(one.step, one.severity) for one in loop.told] == [(9, "warning")]


def test_an_end_is_told_after_bursts_too():
    loop = Loop()
    for batch in [GOOD, BAD, BAD, BAD, GOOD, GOOD] + [BAD] * 80:
        loop.step(batch)
    told = [(one.step, one.severity, one.evidence["losses"]) for one in loop.told]
    assert told == [(1, "error", 3.0), (3, "error", 64.0)]


def test_a_replay_leaves_everything_as_it_was():
    loop, plain = Loop(make=CNN), Loop(make=CNN)
    plain.monitor.close()
    for batch in [GOOD] * 3 + [BAD] * 5:
        loop.step(batch)
        plain.step(batch)
    ours, theirs = loop.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num()) for name in ours)
    assert len(loop.told) == 1


@pytest.mark.parametrize("micro", [4, 16])
@pytest.mark.parametrize("healthy", [0, 3])
@pytest.mark.parametrize("before", [False, True])
def test_micro_batches_have_their_step_to_come(micro, healthy, before):
    loop = Loop(before=before, fused=True)
    for step in range(healthy + 2):
        loop.optimizer.zero_grad()
        for _ in range(micro):
            loss = loop.backward(GOOD if step < healthy else BAD)
            if not before:
                loop.monitor.log(loss=loss)
        loop.scaler.step(loop.optimizer)
        loop.scaler.update()
    assert [one for one in loop.told if "no step" in one.summary] == []
    assert loop.monitor.counts.skipped == 2


@pytest.mark.parametrize("healthy", [0, 3])
def test_gathered_gradients_that_never_get_a_step_are_told_in_the_end(healthy):
    loop = Loop(clear=False)
    for batch in [GOOD] * healthy + [BAD] * 70:
        loop.step(batch)
    (found,) = loop.told
    assert found.evidence["losses"] == (3.0 if healthy else 64.0)


@pytest.mark.parametrize(("in_eval_mode", "grads"), [(True, True), (True, False), (False, False)])
def test_losses_of_a_validation_are_none(in_eval_mode, grads):
    loop = Loop()
    for _ in range(5):
        loop.step(GOOD)
    loop.model.train(not in_eval_mode)
    with torch.set_grad_enabled(grads):
        for _ in range(20):
            loop.monitor.log(loss=nn.functional.mse_loss(loop.model(BAD[0]), BAD[1]))
    assert loop.told == []
    loop.model.train()
    loop.step(GOOD)
    assert loop.told == []


def test_a_long_validation_says_nothing_of_how_many_losses_a_step_has():
    loop = Loop()
    for step in range(12):
        loop.step(GOOD)
        if step % 4 == 3:
            loop.model.eval()
            with torch.no_grad():
                for _ in range(50):
                    loop.monitor.log(loss=nn.functional.mse_loss(loop.model(GOOD[0]), GOOD[1]))
            loop.model.train()
    for _ in range(4):
        loop.step(BAD)
    assert len(loop.told) == 1


def test_a_loop_that_leaves_bad_batches_out_by_itself_hears_of_it():
    model = seeded(mlp)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    guard = attach("guard", model, optimizer)
    for batch in [GOOD, GOOD, BAD, BAD, BAD]:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        guard.log(loss=loss)
        if math.isfinite(float(loss.detach())):
            loss.backward()
            optimizer.step()
    assert [one.kind for one in guard.findings] == ["nonfinite_loss"]


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_the_guard_hears_of_have_findings_of_their_own(fused):
    loop = Loop(fused=fused)
    for batch in [GOOD] * 3 + [BAD] * 6:
        loop.optimizer.zero_grad()
        loss = loop.backward(batch)
        loop.scaler.unscale_(loop.optimizer)
        loop.monitor.clip_()
        loop.scaler.step(loop.optimizer)
        loop.monitor.left_out(loop.optimizer)
        loop.scaler.update()
        loop.monitor.log(loss=loss)
    assert loop.monitor.counts.steps == 9
    assert [one for one in loop.told if "losses" in one.evidence] == []
