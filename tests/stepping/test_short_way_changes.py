"""The short way where something changes under it: a clip in the loop, a closure called twice, a state that is loaded."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import steadygrad as sg


class Twice(torch.optim.Adam):
    """Calls its closure twice."""

    def step(self, closure=None):
        if closure is None:
            return super().step()
        loss = closure()
        closure()
        super().step()
        return loss


class Training:
    def __init__(self, optimizer=torch.optim.Adam, policy=None, **options):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
        self.optimizer = optimizer(self.model.parameters(), **options)
        self.guard = sg.guard(self.model, self.optimizer, policy=policy)
        self.way = self.guard._tracks[0]._short

    def back(self, *, bad=False):
        self.optimizer.zero_grad()
        loss = self.model(torch.randn(16, 8)).square().mean()
        (loss * (math.nan if bad else 1.0)).backward()
        return loss

    def run(self, steps, *, clips=False):
        for _ in range(steps):
            self.back()
            if clips:
                self.guard.clip_()
            self.optimizer.step()

    def until_open(self, **how):
        """Until three steps at least may still pass."""
        self.run(40, **how)
        for _ in range(40):
            if self.way.until - self.guard._tracks[0].lane.step >= 3:
                return
            self.run(1, **how)
        pytest.fail("the short way never opened")


def test_a_nan_of_a_second_call_is_skipped_after_steps_that_were_clipped():
    """Who carries the verdict out is who would have on the long way, and not whoever did so before."""
    training, calls = Training(Twice), []
    training.until_open(clips=True)

    def closure():
        calls.append(1)
        return training.back(bad=len(calls) == 2)

    training.optimizer.step(closure)
    assert training.guard.counts.skipped == 1
    assert all(bool(one.isfinite().all()) for one in training.model.parameters())


def test_a_state_loaded_between_the_clip_and_the_step_loses_no_step():
    training = Training()
    training.until_open(clips=True)
    made, state = training.guard.counts.steps, training.guard.state_dict()
    training.back()
    training.guard.clip_()
    training.guard.load_state_dict(state)
    training.optimizer.step()
    assert training.guard.counts.steps == made + 1
    training.run(100)
    assert training.guard.counts.steps == made + 101
    training.until_open()  # without a clip it opens again


def test_whoever_has_the_policy_may_change_it_at_once():
    training = Training(policy=sg.policies.clip_norm(1e3))
    training.run(48)
    training.guard.policy.max_norm = 1e-6
    training.run(1)
    assert training.guard.last.clipped


class Half(sg.policies.clip_norm(1.0).__class__):
    """Its own judgement: what it inherits beside that can't speak for it."""

    def scale(self, measurement):
        return torch.full_like(measurement.total_norm, 0.5)


@pytest.mark.parametrize("base", [Half, type("Own", (type(sg.policies.auto()),), {"scale": Half.scale})])
def test_a_policy_that_is_derived_from_ours_is_asked_at_every_step(base):
    training = Training(policy=base(1.0) if base is Half else base())
    training.run(60)
    assert training.guard.counts.clipped == 60


@pytest.mark.parametrize("ends", ["clipped twice", "raised", "left out"])
def test_a_rate_that_jumps_is_seen_after_a_step_that_nobody_learnt_from(ends):
    """The momentum stored at the old rate would carry the weights away."""
    training = Training(torch.optim.SGD, lr=0.01, momentum=0.9)
    training.run(85)
    training.optimizer.param_groups[0]["lr"] = 30.0
    training.back()
    if ends == "raised":
        handle = training.optimizer.register_step_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            training.optimizer.step()
        handle.remove()
    else:
        training.guard.clip_()
        if ends == "left out":
            training.guard.left_out(training.optimizer, surely=True)
    training.back()
    training.guard.clip_()
    training.optimizer.step()
    assert training.guard.last.lr_factor < 0.1
