"""Growth from time step to time step against one leaf for each step.

Shape legend: N batch, T time steps, D features.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from steadygrad.gains import TimeGain, measure_gains

STEPS = 30
KINDS = [nn.RNN, nn.LSTM, nn.GRU]


class Last(nn.Module):
    """Reads out the last step."""

    def __init__(self, kind=nn.RNN, **more):
        super().__init__()
        self.first = more.get("batch_first", False)
        self.rnn = kind(3, 16, **more)

    def forward(self, x):
        out, _ = self.rnn(x)
        return out[:, -1] if self.first else out[-1]


def square(output):
    return output.square().mean()


def truth(model, batch, dim):
    """Gradient norm with respect to each step, each a leaf of its own."""
    steps = [step.clone().requires_grad_() for step in batch.unbind(dim)]
    return [float(g.norm()) for g in torch.autograd.grad(square(model(torch.stack(steps, dim))), steps)]


@pytest.mark.parametrize(
    "more", [{}, {"batch_first": True}, {"num_layers": 2}, {"bidirectional": True}], ids=str
)
@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_those_of_one_leaf_a_step(kind, more):
    model, batch = Last(kind, **more), torch.randn(STEPS, 4, 3)
    dim = 0
    if more.get("batch_first"):
        batch, dim = batch.transpose(0, 1), 1
    (gain,) = measure_gains(model, batch, square).time
    assert gain.module == "rnn"
    assert gain.gated is (kind is not nn.RNN)
    assert gain.grad_norms == pytest.approx(truth(model, batch, dim), rel=1e-4)
    assert len(gain.signals) == STEPS


def test_a_packed_sequence_is_split_by_its_batch_sizes():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(3, 16)

        def forward(self, x):
            packed = pack_padded_sequence(x, torch.tensor([STEPS, 20, 10]))
            return self.rnn(packed)[1]

    model, batch = Packed(), torch.randn(STEPS, 3, 3)
    (gain,) = measure_gains(model, batch, square).time
    assert gain.grad_norms == pytest.approx(truth(model, batch, 0), rel=1e-4)


def test_a_sequence_given_by_name_is_seen():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(3, 16)

        def forward(self, x):
            return self.rnn(input=x)[0][-1]

    assert len(measure_gains(Named(), torch.randn(STEPS, 3, 3), square).time) == 1


class Loop(nn.Module):
    """A cell in a loop; the last state is the output."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[0] if isinstance(state, tuple) else state


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_a_cell_in_a_loop_is_a_sequence(kind):
    model, batch = Loop(kind(3, 16)), torch.randn(4, STEPS, 3)
    (gain,) = measure_gains(model, batch, square).time
    states, state, value = [], None, None
    for step in batch.unbind(1):
        state = model.cell(step, state)
        value = state[0] if isinstance(state, tuple) else state
        states.append(state if isinstance(state, tuple) else (state,))
    flat = [tensor for state in states for tensor in state]
    grads = torch.autograd.grad(square(value), flat, allow_unused=True)
    width = len(states[0])
    squares = [0.0 if grad is None else float(grad.square().sum()) for grad in grads]
    norms = [math.sqrt(sum(squares[i : i + width])) for i in range(0, len(squares), width)]
    assert gain.grad_norms == pytest.approx(norms, rel=1e-4)
    assert gain.gated is (kind is not nn.RNNCell)


class Weight(nn.Module):
    """A plain Linear as the recurrent weight, as people write it."""

    def __init__(self, radius, width=64, act=torch.tanh):
        super().__init__()
        self.enter, self.recur = nn.Linear(2, width), nn.Linear(width, width, bias=False)
        self.leave, self.act = nn.Linear(width, 1), act
        nn.init.orthogonal_(self.recur.weight, gain=radius)

    def forward(self, x):
        state = torch.zeros(len(x), self.recur.in_features)
        for step in x.unbind(1):
            state = self.act(self.enter(step) + self.recur(state))
        return self.leave(state)


def test_a_linear_in_a_loop_is_a_sequence_and_the_others_arent():
    gains = measure_gains(Weight(0.9), torch.rand(32, 100, 2), square)
    (gain,) = gains.time
    assert gain.module == "recur"
    assert not gain.gated
    assert gain.total < 1e-15
    assert gain.horizon < 60
    assert [layer.module for layer in gains.layers] == ["enter", "recur", "leave"]


@pytest.mark.parametrize("radius", [0.8, 1.25])
def test_a_linear_recurrence_gives_its_spectral_radius(radius):
    model = Weight(radius, act=lambda value: value)
    (gain,) = measure_gains(model, torch.rand(32, 40, 2), square).time
    assert gain.per_step == pytest.approx(radius, rel=1e-3)
    assert gain.rise == pytest.approx(radius**39, rel=0.05)


def test_a_gate_written_by_hand_is_seen_as_one():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.both = nn.Linear(3 + 8, 16)

        def forward(self, x):
            state = torch.zeros(len(x), 8)
            for step in x.unbind(1):
                gate, new = self.both(torch.cat([step, state], 1)).chunk(2, 1)
                state = gate.sigmoid() * state + (1 - gate.sigmoid()) * new.tanh()
            return state

    (gain,) = measure_gains(Gate(), torch.randn(4, 20, 3), square).time
    assert gain.gated


def test_a_shared_encoder_is_no_sequence():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))

        def forward(self, x):
            return sum(self.encoder(one) for one in x.unbind(1))

    gains = measure_gains(Shared(), torch.randn(4, 10, 3), square)
    assert gains.time == ()
    assert len(gains.layers) == 2


def test_steps_behind_the_last_one_read_dont_count():
    gain = TimeGain("rnn", (1e-3, 1e-2, 1e-1, 1.0, 0.0, 0.0))
    assert gain.per_step == pytest.approx(0.1)
    assert gain.horizon == 4
    assert gain.total == pytest.approx(1e-3)
    assert gain.rise == pytest.approx(1e-3)


def test_both_ways_dying_and_growing_are_told_apart():
    u_shape = [10.0 ** abs(t - 20) * 1e-20 for t in range(41)]
    dying = TimeGain("rnn", tuple(u_shape), both_ways=True, entered=1.0)
    growing = TimeGain("rnn", tuple(u_shape), both_ways=True, entered=1e-20)
    assert dying.per_step == pytest.approx(0.1)
    assert dying.total == pytest.approx(1e-20)
    assert growing.per_step == pytest.approx(10.0)
    assert growing.rise == pytest.approx(1e20)


@pytest.mark.parametrize("norms", [(), (0.0, 0.0), (math.nan,) * 5, (math.inf, 1.0, math.nan, 0.0)])
def test_odd_norms_pass(norms):
    for both_ways in (False, True):
        gain = TimeGain("rnn", norms, both_ways=both_ways)
        assert gain.per_step > 0
        assert gain.horizon >= 0
        assert gain.total is not None
        assert gain.rise is not None
