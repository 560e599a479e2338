"""Torch calls the hook of a tensor with None where a node got a gradient for another of its outputs only."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.containment import Containment
from steadygrad.ranks import LocalNorms


class LastState(nn.Module):
    """Reads out the last state of an LSTM whose time comes first: what it returned step by step goes unused."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[1][0][-1])


class Halves(nn.Module):
    """A layer that returns two parts, of which the loss takes the second."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 16))

    def forward(self, x):
        return (x @ self.weight).chunk(2, -1)


class Second(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.halves = nn.Linear(3, 3), Halves()

    def forward(self, x):
        return self.halves(self.body(x))[1]


class FirstOnly(torch.autograd.Function):
    """Somebody's own operation, without a gradient for its second input."""

    @staticmethod
    def forward(ctx, first, second):
        return first + second

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class Unfed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.offset = nn.Linear(3, 4), nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return FirstOnly.apply(self.body(x), self.offset)


MODELS = (LastState, Second, Unfed)


def trained(make, attach=None):
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    monitor = attach(model, optimizer) if attach else None
    for _ in range(12):
        optimizer.zero_grad()
        model(torch.randn(6, 5, 3)).square().mean().backward()
        optimizer.step()
    if monitor is not None:
        monitor.close()
        assert "switched off" not in monitor.summary()
    return list(model.parameters())


@pytest.mark.parametrize("attach", [sg.watch, sg.guard])
@pytest.mark.parametrize("make", MODELS)
def test_a_training_goes_on_as_without_us(make, attach):
    pairs = zip(trained(make), trained(make, attach), strict=True)
    assert all(torch.equal(plain, watched) for plain, watched in pairs)


@pytest.mark.parametrize("make", MODELS)
def test_a_checkup_goes_through(make):
    assert sg.check(make(), torch.randn(6, 5, 3), lambda output: output.square().mean()).gains is not None


@pytest.mark.parametrize("late", [False, True])
def test_a_ranks_own_norm_goes_without_it(late):
    told = []
    fed, unfed = (nn.Parameter(torch.zeros(3)) for _ in range(2))
    local = LocalNorms([fed, unfed], late=late, containment=Containment(told.append))
    FirstOnly.apply(fed * 1.0, unfed * 1.0).sum().backward()
    assert float(local.take()) == pytest.approx(3.0**0.5)
    assert not told
