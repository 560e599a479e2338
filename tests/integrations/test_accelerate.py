"""`attach` in real loops of Accelerate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.errors import UsageError

pytest.importorskip("accelerate")

from accelerate import Accelerator

from steadygrad.integrations.accelerate import attach, attach_clipping
from steadygrad.integrations.attaching import Wish

pytestmark = pytest.mark.filterwarnings("ignore")


def train(mode=None, *, clip=None, accumulate=1, poisoned=(), steps=6, scale=1.0, **wish):
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    model, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=0.01))
    guard = attach(accelerator, model, optimizer, mode=mode, **wish) if mode else None
    for step in range(steps * accumulate):
        with accelerator.accumulate(model):
            batch = torch.randn(8, 4)
            loss = scale * (model(batch) ** 2).mean()
            accelerator.backward(loss * math.nan if step in poisoned else loss)
            if clip is not None:
                # As its own examples do, on every micro-batch and with a generator.
                accelerator.clip_grad_norm_((param for param in model.parameters()), clip)
            optimizer.step()
            optimizer.zero_grad()
    return model, guard, accelerator


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("mode", ["watch", "guard"])
@pytest.mark.parametrize("clip", [None, 0.01, 100.0])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_healthy_training_is_bit_identical(mode, clip, accumulate):
    plain, _, _ = train(clip=clip, accumulate=accumulate)
    watched, guard, _ = train(mode, clip=clip, accumulate=accumulate)
    assert same(plain, watched)
    assert (guard.counts.steps, guard.counts.clipped) == (6, 0)


def test_norms_before_the_clip_and_losses_as_they_are():
    _, guard, _ = train("watch", clip=0.001, scale=100.0)
    _, other, _ = train("watch", scale=100.0, steps=1)
    assert all(reading.total_norm > 0.1 for reading in guard.recent)
    assert guard.recent[0].total_norm == other.recent[0].total_norm
    assert guard.recent[0].loss == pytest.approx(other.recent[0].loss)


def test_accumulated_loss_is_the_mean():
    _, guard, _ = train("watch", accumulate=2, steps=1)
    torch.manual_seed(0)
    twin = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    losses = [float((twin(torch.randn(8, 4)) ** 2).mean()) for _ in range(2)]
    assert guard.last.loss == pytest.approx(sum(losses) / 2)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_poisoned_batch_is_left_out(clip):
    model, guard, _ = train("guard", clip=clip, poisoned={2})
    assert (guard.counts.steps, guard.counts.skipped) == (6, 1)
    assert math.isnan(guard.recent[2].loss)
    assert all(param.isfinite().all() for param in model.parameters())


@pytest.mark.parametrize("clips", [True, False])
def test_running_statistics_are_well_before_a_moving_average_takes_them(clips):
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu")
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
    guard = attach(accelerator, model, optimizer)
    for step in range(4):
        accelerator.backward(model(torch.full((8, 4), math.nan if step == 2 else 1.0)).square().mean())
        if clips:
            accelerator.clip_grad_norm_(model.parameters(), 1e9)
        optimizer.step()
        optimizer.zero_grad()
        assert all(buffer.isfinite().all() for buffer in model.buffers())
    assert (guard.counts.steps, guard.counts.overflows) == (4, 1)
    guard.close()
    accelerator.free_memory()


def test_a_scaler_that_steps_an_optimizer_that_nobody_watches_goes_on():
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu")
    model, loss = nn.Linear(4, 1), nn.Linear(1, 1)
    own = torch.optim.SGD(model.parameters(), lr=0.01)
    other = torch.optim.SGD(loss.parameters(), lr=0.01)
    model, loss, own, other = accelerator.prepare(model, loss, own, other)
    guard = attach(accelerator, model, own)
    before = loss.weight.clone()
    for _ in range(3):
        accelerator.backward(loss(model(torch.ones(8, 4))).square().mean())
        for optimizer in (own, other):
            optimizer.step()
            optimizer.zero_grad()
    assert guard.counts.steps == 3
    assert not torch.equal(loss.weight, before)
    guard.close()
    accelerator.free_memory()


def test_two_optimizers_are_measured_when_their_own_gradients_are_clipped():
    accelerator = Accelerator(cpu=True)
    one, two = nn.Linear(4, 1), nn.Linear(4, 1)
    both = nn.ModuleList([one, two])
    first, second = (torch.optim.SGD(part.parameters(), lr=0.01) for part in (one, two))
    both, first, second = accelerator.prepare(both, first, second)
    guard = attach(accelerator, both, [first, second], mode="guard")
    for part, optimizer in ((both[0], first), (both[1], second)) * 3:
        accelerator.backward(100 * part(torch.ones(2, 4)).sum() ** 2)
        accelerator.clip_grad_norm_(part.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
    assert [reading.optimizer for reading in guard.recent] == [0, 1] * 3
    assert all(reading.total_norm > 1.0 for reading in guard.recent)


def test_attached_twice_is_attached_once_and_closing_gives_back():
    _, guard, accelerator = train("guard", steps=1)
    model, optimizer = accelerator._models[0], accelerator._optimizers[0]
    assert attach(accelerator, model, optimizer) is guard
    with pytest.raises(UsageError, match="already attached"):
        attach(accelerator, model, optimizer, policy=sg.policies.clip_norm(1.0))
    guard.close()
    accelerator.backward(model(torch.ones(1, 4)).sum())
    accelerator.clip_grad_norm_(model.parameters(), 1.0)


def test_deepspeed_is_refused_with_what_still_works():
    class Engine:
        distributed_type = "DistributedType.DEEPSPEED"

        def unwrap_model(self, model):
            return model

    with pytest.raises(UsageError, match="gradient_clipping in its configuration"):
        attach(Engine(), nn.Sequential(), None)
    # As Transformers' callback does.
    with pytest.raises(UsageError, match=r"^SteadygradCallback\(\): DeepSpeed keeps"):
        attach_clipping(Engine(), nn.Sequential(), None, Wish("SteadygradCallback"))
