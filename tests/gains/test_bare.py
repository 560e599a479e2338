"""Recurrences around bare parameters, against the gradients of their states."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import steadygrad as sg
from steadygrad.gains import measure_gains

STEPS = 20


class Loop(nn.Module):
    """A cell without a module; keeps its states for the slow truth."""

    def __init__(self, kind="matmul", gain=0.8):
        super().__init__()
        self.kind = kind
        self.into = nn.Parameter(0.1 * torch.randn(4, 16))
        self.back = nn.Parameter(gain * torch.linalg.qr(torch.randn(16, 16))[0])
        self.out = nn.Parameter(0.3 * torch.randn(16, 3))
        self.states = []

    def forward(self, x):
        h = x.new_zeros(len(x), 16)
        turned, self.states = self.back.t(), []
        for t in range(x.shape[1]):
            if self.kind == "matmul":
                fed = h @ self.back
            elif self.kind == "linear":
                fed = functional.linear(h, self.back)
            elif self.kind == "turned":
                fed = h @ turned
            else:
                fed = torch.einsum("ni,ij->nj", h, self.back)
            self.states.append(fed)
            h = torch.tanh(x[:, t] @ self.into + fed)
        return h @ self.out


def loss_fn(out):
    return out.square().mean()


@pytest.mark.parametrize("kind", ["matmul", "linear", "turned", "einsum"])
def test_the_gradient_of_every_state(kind):
    torch.manual_seed(0)
    model, x = Loop(kind), 0.1 * torch.randn(8, STEPS, 4)
    (gain,) = measure_gains(model, x, loss_fn).time
    exact = torch.autograd.grad(loss_fn(model(x)), model.states)
    assert gain.module == "back"
    assert gain.grad_norms == pytest.approx([float(one.norm()) for one in exact], rel=1e-4)
    assert gain.per_step == pytest.approx(0.8, rel=0.05)


@pytest.mark.parametrize(("gain", "kind"), [(0.4, "vanishing_in_time"), (1.0, None)])
def test_the_checkup_tells_it(gain, kind):
    torch.manual_seed(0)
    model, x = Loop(gain=gain), 0.01 * torch.randn(8, 40, 4)
    found = sg.check(model, x, loss_fn)
    told = [(one.kind, one.where) for one in found.findings if "in_time" in one.kind]
    assert told == ([(kind, ("back",))] if kind else [])
    assert found.time_gain["back"] == pytest.approx(gain, rel=0.05)


class LSTMByHand(nn.Module):
    def __init__(self):
        super().__init__()
        for name in "ifgo":
            self.register_parameter(f"hh_{name}", nn.Parameter(0.3 * torch.randn(8, 8)))
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        h = c = x.new_zeros(len(x), 8)
        for t in range(x.shape[1]):
            i, f, o = (torch.sigmoid(x[:, t] + h @ gate) for gate in (self.hh_i, self.hh_f, self.hh_o))
            c = f * c + i * torch.tanh(x[:, t] + h @ self.hh_g)
            h = o * torch.tanh(c)
        return self.head(h)


def test_gates_share_one_recurrence():
    torch.manual_seed(0)
    (gain,) = measure_gains(LSTMByHand(), torch.randn(4, STEPS, 8), loss_fn).time
    assert gain.gated
    assert len(gain.grad_norms) == STEPS


class Uses(nn.Module):
    """One matrix for several inputs, none fed by the other."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Parameter(torch.randn(8, 8))

    def forward(self, *xs):
        return sum((x @ self.shared).tanh() for x in xs)


class Cell(nn.Module):
    """A module called at each step tells for itself."""

    def __init__(self):
        super().__init__()
        self.back = nn.Parameter(0.9 * torch.eye(8))

    def forward(self, h, x):
        return torch.tanh(h @ self.back + x)


class Called(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = Cell()

    def forward(self, x):
        h = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            h = self.cell(h, x[:, t])
        return h


def test_what_is_no_recurrence_or_is_told_already_is_told_once():
    torch.manual_seed(0)
    assert measure_gains(Uses(), tuple(torch.randn(4, 8) for _ in range(5)), loss_fn).time == ()
    (gain,) = measure_gains(Called(), torch.randn(4, STEPS, 8), loss_fn).time
    assert gain.module == "cell"


def test_nothing_is_left_on_the_model_and_two_looks_agree():
    torch.manual_seed(0)
    model, x = Loop(), torch.randn(8, STEPS, 4)
    first, second = (measure_gains(model, x, loss_fn).time for _ in range(2))
    assert first == second
    assert all(param.grad is None for param in model.parameters())


def test_no_gradient_through_time_is_no_gain():
    class Cut(Loop):
        def forward(self, x):
            h = x.new_zeros(len(x), 16)
            for t in range(x.shape[1]):
                h = torch.tanh(x[:, t] @ self.into + h.detach() @ self.back)
            return h @ self.out

    assert measure_gains(Cut(), torch.randn(8, STEPS, 4), loss_fn).time == ()
