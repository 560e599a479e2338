"""A checkup leaves everything as it found it, to the last bit, also when something raises midway."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import steadygrad as sg

WEAK = 3


class Net(nn.Module):
    """Has all that a careless look could change."""

    def __init__(self, fails_at=None):
        super().__init__()
        self.enter, self.norm, self.drop = nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)
        self.frozen = nn.Linear(16, 16).requires_grad_(False)
        self.head = nn.Linear(16, 1)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("rebound", torch.zeros(3))
        self.passes, self.kept, self.seen = 0, None, []
        self.fails_at = fails_at

    def forward(self, x):
        self.passes += 1
        self.count += 1
        self.rebound = self.rebound + 1
        if self.fails_at is not None and self.passes >= self.fails_at:
            raise RuntimeError("midway")
        hidden = self.drop(self.norm(self.enter(x)).relu())
        self.kept = hidden
        self.seen.append(hidden)
        self.cache = random.random() + np.random.random()  # noqa: NPY002 - what users do
        return self.head(self.frozen(hidden))


def prepared(**more):
    model = Net(**more)
    model.head.eval()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    targets = torch.randn(16, 1)
    batch = torch.randn(16, 4)
    fails, model.fails_at = model.fails_at, None
    functional.mse_loss(model(batch), targets).backward()
    optimizer.step()
    model.passes, model.fails_at, model.kept = 0, fails, None
    model.seen.clear()
    model.register_forward_hook(lambda *_: None)
    model.enter.weight.register_hook(lambda grad: None)
    optimizer.register_step_pre_hook(lambda *_: None)
    return model, batch, targets, optimizer


def state(model, optimizer, batch):
    """Everything, as bytes and identities."""
    hooks = [
        (name, list(value))
        for module in model.modules()
        for name, value in vars(module).items()
        if "hooks" in name and isinstance(value, dict)
    ]
    grads = [
        (id(param.grad), None if param.grad is None else param.grad.clone()) for param in model.parameters()
    ]
    numbers = {
        "weights": [param.detach().clone() for param in model.parameters()],
        "objects": [id(param) for param in model.parameters()],
        "requires": [param.requires_grad for param in model.parameters()],
        "buffers": [(id(buffer), buffer.clone()) for buffer in model.buffers()],
        "grads": grads,
        "modes": [module.training for module in model.modules()],
        "hooks": hooks,
        "weight hooks": list(model.enter.weight._backward_hooks),
        "step hooks": list(optimizer._optimizer_step_pre_hooks),
        "attributes": (model.passes, model.kept, list(model.seen), sorted(vars(model))),
        "optimizer": optimizer.state_dict(),
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "batch": batch.clone(),
        "batch grad": batch.grad,
        "enabled": torch.is_grad_enabled(),
    }
    return as_bytes(numbers)


def as_bytes(value):
    """The same structure with bytes in the place of tensors and arrays."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.detach().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return {name: as_bytes(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_bytes(one) for one in value]
    return value


def losses(targets):
    def loss(output):
        return functional.mse_loss(output, targets) + 0.01 * torch.rand(()) + 0.01 * random.random()

    return loss


def test_nothing_changes():
    model, batch, targets, optimizer = prepared()
    before = state(model, optimizer, batch)
    found = sg.check(model, batch, losses(targets), optimizer)
    assert state(model, optimizer, batch) == before
    found.try_remedies(3)
    assert state(model, optimizer, batch) == before


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_nothing_changes_when_the_model_raises(fails_at):
    model, batch, targets, optimizer = prepared(fails_at=fails_at)
    before = state(model, optimizer, batch)
    try:
        sg.check(model, batch, losses(targets), optimizer)
    except RuntimeError as error:
        assert str(error) == "midway"  # noqa: PT017 - later passes are a note instead
    assert state(model, optimizer, batch) == before


@pytest.mark.parametrize("fails_at", [1, 2, 3, 5])
def test_nothing_changes_when_the_loss_raises(fails_at):
    model, batch, targets, optimizer = prepared()
    before = state(model, optimizer, batch)
    calls = []

    def loss(output):
        calls.append(0)
        if len(calls) >= fails_at:
            raise RuntimeError("midway")
        return functional.mse_loss(output, targets)

    try:
        sg.check(model, batch, loss, optimizer)
    except RuntimeError as error:
        assert str(error) == "midway"  # noqa: PT017 - later passes are a note instead
    assert state(model, optimizer, batch) == before


def test_what_the_loss_function_reaches_keeps_its_gradient():
    judge, weight = nn.Linear(1, 1), torch.ones((), requires_grad=True)
    judge.weight.grad = torch.full_like(judge.weight, 7.0)
    kept = judge.weight.grad
    model, batch, _, optimizer = prepared()
    batch.requires_grad_()
    sg.check(model, batch, lambda output: (weight * judge(output)).square().mean(), optimizer)
    assert judge.weight.grad is kept
    assert float(kept) == 7.0
    assert judge.bias.grad is weight.grad is batch.grad is None


def test_a_loss_module_keeps_its_buffers_and_mode():
    class Counted(nn.MSELoss):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, output):
            self.calls += 1
            return self.scale * super().forward(output, torch.zeros_like(output))

    loss = Counted().eval()
    model, batch, _, optimizer = prepared()
    sg.check(model, batch, loss, optimizer)
    assert float(loss.calls) == 0
    assert loss.scale.grad is None


def test_an_optimizer_inside_the_backward_pass_doesnt_step():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    steps = []
    for param in model.parameters():
        param.register_post_accumulate_grad_hook(steps.append)
    sg.check(model, torch.randn(16, 4), lambda output: output.square().mean())
    assert steps == []
    model(torch.randn(16, 4)).sum().backward()
    assert len(steps) == 4


def test_a_training_after_a_checkup_is_the_same_training():
    def train(*, looked_at):
        torch.manual_seed(1)
        model, batch, targets, optimizer = prepared()
        for _ in range(WEAK):
            if looked_at:
                sg.check(model, batch, losses(targets), optimizer)
            optimizer.zero_grad()
            functional.mse_loss(model(batch), targets).backward()
            optimizer.step()
        return [param.detach().clone() for param in model.parameters()]

    pairs = zip(train(looked_at=False), train(looked_at=True), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_guard_that_is_attached_sees_nothing_of_it():
    model, batch, targets, optimizer = prepared()
    with sg.guard(model, optimizer) as guard:
        sg.check(model, batch, losses(targets), optimizer)
        assert guard.last is None
        assert guard.findings == ()
