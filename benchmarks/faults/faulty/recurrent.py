"""Growth and decay from time step to time step."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD, Adam

from benchmarks.faults.case import faulty
from benchmarks.faults.data import adding, drawn
from benchmarks.faults.losses import squared
from benchmarks.faults.models import Cell, Recurrent
from benchmarks.faults.training import Training, clipped

GROWS = ("exploding_in_time", "exploding_gradient")
FADES = ("vanishing_in_time",)
STEPS = 30


def _adding(model: nn.Module, length: int = 100) -> Training:
    return Training(model, SGD(model.parameters(), 0.01), drawn(adding(length)), squared)


@faulty("recurrent", *GROWS, "nonfinite_activation", at=0, nonfinite=True, steps=STEPS, curable=True)
def relu_recurrence_of_gain_two_and_a_half() -> Training:
    return _adding(Cell(2.5, torch.relu))


@faulty("recurrent", *GROWS, at=0, sudden=True, steps=STEPS, curable=True)
def linear_recurrence_of_gain_one_point_one() -> Training:
    return _adding(Cell(1.1, lambda state: state))


@faulty("recurrent", *GROWS, "clip_is_step_limiter", at=0, steps=STEPS, curable=True)
def the_same_behind_a_clip() -> Training:
    training = _adding(Cell(1.1, lambda state: state))
    training.loop = clipped(1.0)
    return training


@faulty("recurrent", *FADES, at=0, steps=STEPS, place=("hidden",), curable=True)
def tanh_recurrence_of_gain_a_half() -> Training:
    return _adding(Cell(0.5, torch.tanh))


@faulty("recurrent", *FADES, at=0, steps=STEPS, place=("hidden",), curable=True)
def tanh_recurrence_of_gain_nine_tenths() -> Training:
    return _adding(Cell(0.9, torch.tanh))


@faulty("recurrent", *FADES, at=0, steps=STEPS, place=("core",), curable=True)
def plain_rnn_over_150_steps() -> Training:
    return _adding(Recurrent(nn.RNN(2, 48, batch_first=True), 1), 150)


@faulty("recurrent", *GROWS, "nonfinite_activation", at=0, steps=STEPS, place=("core",), curable=True)
def relu_rnn_with_weights_tripled() -> Training:
    core = nn.RNN(2, 48, batch_first=True, nonlinearity="relu")
    core.weight_hh_l0.data.mul_(3.0)
    return _adding(Recurrent(core, 1), 100)


@faulty("recurrent", *FADES, at=0, steps=STEPS, place=("core",), curable=True)
def lstm_with_closed_forget_gates() -> Training:
    core = nn.LSTM(2, 32, batch_first=True)
    core.bias_ih_l0.data[32:64].fill_(-5.0)
    training = _adding(Recurrent(core, 1), 80)
    training.optimizer = Adam(training.model.parameters())
    return training
