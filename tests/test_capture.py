"""A CUDA graph that is captured, as far as that can be tried without a device: what asks for it is told "yes"."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import steadygrad as sg
from steadygrad.capture import is_capturing
from steadygrad.measure import LateReads

PLACES = ("forward_hook", "monitor", "ranks.local", "stepping.hooks", "stepping.track", "stepping.zero_grad")


class Operations(TorchDispatchMode):
    """Counts what is put on a stream."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def capture(monkeypatch):
    """Stands for a capture: is_capturing() says yes, and what would make it fail raises."""

    def refused(*args):
        raise RuntimeError("operation not permitted when stream is capturing")

    @contextmanager
    def capturing():
        with monkeypatch.context() as context:
            for place in PLACES:
                context.setattr(f"steadygrad.{place}.is_capturing", lambda: True)
            context.setattr(LateReads, "send", refused)
            context.setattr(LateReads, "take", refused)
            yield

    return capturing


def training(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    return model, torch.optim.Adam(model.parameters(), lr=0.01), torch.randn(16, 4)


def step(model, optimizer, x):
    optimizer.zero_grad(set_to_none=False)
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    return loss


def operations(model, optimizer, x):
    with Operations() as seen:
        step(model, optimizer, x)
    return seen.names


@pytest.mark.parametrize("make", [sg.guard, sg.watch])
def test_a_captured_step_is_what_it_is_without_a_guard(make, capture, capsys):
    plain, guarded = training(), training()
    with make(*guarded[:2]) as monitor:
        for one in (plain, guarded):
            step(*one)
        before = monitor.counts.steps
        with capture():
            assert operations(*guarded) == operations(*plain)
        assert monitor.counts.steps == before
        assert "captured in a CUDA graph" in capsys.readouterr().err
    for mine, theirs in zip(guarded[0].parameters(), plain[0].parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_clip_in_a_capture_returns_the_norm_and_changes_nothing(capture):
    model, optimizer, x = training()
    with sg.guard(model, optimizer, policy=sg.policies.clip_norm(1e-6)) as guard:
        step(model, optimizer, x)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        grads = [param.grad.clone() for param in model.parameters()]
        with capture():
            norm = guard.clip_()
            guard.log(loss=torch.tensor(1.0))
        assert norm == pytest.approx(float(torch.cat([grad.flatten() for grad in grads]).norm()))
        assert all(map(torch.equal, grads, [param.grad for param in model.parameters()]))


def test_after_the_capture_steps_are_guarded_again(capture):
    model, optimizer, x = training()
    with sg.guard(model, optimizer) as guard:
        with capture():
            step(model, optimizer, x)
        step(model, optimizer, x)
        x[0] = float("nan")
        step(model, optimizer, x)
        assert guard.last.skipped
        assert guard.counts.steps == 2
    assert all(param.isfinite().all() for param in model.parameters())


def test_no_capture_where_there_is_no_cuda():
    assert is_capturing() is False
