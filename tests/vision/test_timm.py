"""timm's scaler and clip with a real model of its."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

import steadygrad as sg
from steadygrad.errors import UsageError

pytest.importorskip("timm", reason="needs the vision environment")

import timm
from timm.utils import ModelEmaV3, adaptive_clip_grad
from timm.utils import NativeScaler as TimmScaler

from steadygrad.integrations.timm import NativeScaler, dispatch_clip_grad


def train(mode, *, clip=None, clip_mode="norm", poisoned=(), steps=4, average=False, **wish):
    """A loop as in timm's train.py."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    guard = {None: lambda *_: None, "watch": sg.watch, "guard": sg.guard}[mode](model, optimizer, **wish)
    average = ModelEmaV3(model, decay=0.9) if average else None
    scaler = TimmScaler("cpu") if guard is None else NativeScaler(guard, "cpu")
    for step in range(steps):
        images = torch.randn(4, 3, 64, 64)
        if step in poisoned:
            images[0, 0, 0, 0] = math.nan
        loss = F.cross_entropy(model(images), torch.arange(4))
        scaler(loss, optimizer, clip_grad=clip, clip_mode=clip_mode, parameters=model.parameters())
        optimizer.zero_grad()
        if average is not None:
            average.update(model)
    model.average = average
    return model, guard, scaler


@pytest.mark.parametrize("mode", ["watch", "guard"])
@pytest.mark.parametrize(
    ("clip", "clip_mode"), [(None, "norm"), (0.1, "norm"), (0.01, "value"), (0.01, "agc")]
)
def test_healthy_training_is_bit_identical(mode, clip, clip_mode):
    plain, _, _ = train(None, clip=clip, clip_mode=clip_mode)
    watched, guard, scaler = train(mode, clip=clip, clip_mode=clip_mode)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    assert guard.counts.steps == 4
    assert float(scaler.norm) == pytest.approx(guard.last.total_norm)
    assert guard.last.total_norm > 0.1
    assert all(math.isfinite(reading.loss) for reading in guard.recent)
    assert scaler.state_dict().keys() == TimmScaler("cpu").state_dict().keys()


@pytest.mark.parametrize(("clip_mode", "held"), [("norm", 0), ("value", 4)])
def test_what_timm_clips_is_held_once(clip_mode, held):
    _, guard, _ = train("guard", clip=0.1, clip_mode=clip_mode, policy=sg.policies.clip_norm(0.11))
    assert (guard.counts.steps, guard.counts.clipped) == (4, held)
    assert all(reading.total_norm > 0.2 for reading in guard.recent)


def test_poisoned_batch_is_left_out():
    model, guard, _ = train("guard", clip=1.0, poisoned={2})
    assert all(param.isfinite().all() for param in model.parameters())
    assert (guard.counts.steps, guard.counts.skipped) == (4, 1)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("poisoned", [0, 2])
def test_the_moving_average_takes_nothing_of_a_step_that_the_scaler_leaves_out(clip, poisoned):
    model, guard, _ = train("guard", clip=clip, poisoned={poisoned}, average=True)
    for one in (model, model.average):
        assert all(value.isfinite().all() for value in one.state_dict().values())
    assert (guard.counts.steps, guard.counts.skipped) == (4, 1)


@pytest.mark.parametrize("mode", ["norm", "value", "agc"])
def test_dispatch_keeps_the_norm_and_clips_as_timm(mode):
    params = [torch.nn.Parameter(torch.randn(3, 3)) for _ in range(2)]
    twins = [torch.nn.Parameter(param.detach().clone()) for param in params]
    for param, twin in zip(params, twins, strict=True):
        param.grad = torch.randn(3, 3)
        twin.grad = param.grad.clone()
    norm = dispatch_clip_grad((param for param in params), 0.05, mode=mode)
    assert float(norm) == pytest.approx(math.sqrt(sum(float(t.grad.square().sum()) for t in twins)), rel=1e-5)
    clips = {
        "norm": torch.nn.utils.clip_grad_norm_,
        "value": torch.nn.utils.clip_grad_value_,
        "agc": adaptive_clip_grad,
    }
    clips[mode](twins, 0.05)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(params, twins, strict=True))


def test_what_is_no_guard_is_refused():
    with pytest.raises(UsageError, match=r"expected what steadygrad\.guard"):
        NativeScaler("cuda")
