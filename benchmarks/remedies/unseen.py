"""Faulty trainings on which nothing was tuned: written after the remedies and their ranking were fixed."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from benchmarks.remedies.data import curve, pictures, prototypes, rings, waves
from benchmarks.remedies.healthy import adam, mlp, sgd
from benchmarks.remedies.healthy.pictures import convolutions
from benchmarks.remedies.healthy.sequences import Attention, Recurrent
from benchmarks.remedies.recipes import adding, filled
from benchmarks.remedies.training import Builder, Training

UNSEEN: dict[str, Builder] = {}


def unseen(build: Builder) -> Builder:
    """Add it to the collection."""
    UNSEEN[build.__name__] = build
    return build


@unseen
def adamw_rate_of_three():
    model = mlp(64, 128, 128, 10, act=nn.GELU)
    return Training(
        model, *prototypes(), functional.cross_entropy, torch.optim.AdamW(model.parameters(), 3.0)
    )


@unseen
def rmsprop_rate_of_two():
    model = mlp(8, 32, 32, 1, act=nn.Tanh)
    return Training(model, *curve(), functional.mse_loss, torch.optim.RMSprop(model.parameters(), 2.0))


@unseen
def heavy_momentum_regression():
    model = mlp(8, 64, 1)
    return Training(model, *curve(), functional.mse_loss, sgd(model, 1.0, momentum=0.99))


@unseen
def summed_loss():
    model = mlp(64, 64, 10)
    loss = partial(functional.cross_entropy, reduction="sum")
    return Training(model, *prototypes(), loss, sgd(model, 0.3))


@unseen
def softsign_stack_weights_too_small():
    model = filled(mlp(8, *[32] * 20, 1, act=nn.Softsign), partial(nn.init.normal_, std=0.02))
    return Training(model, *curve(), functional.mse_loss, adam(model, 3e-3))


@unseen
def leaky_relu_weights_too_large():
    model = filled(mlp(64, *[32] * 24, 10, act=nn.LeakyReLU), partial(nn.init.normal_, std=0.8))
    return Training(model, *prototypes(), functional.cross_entropy, sgd(model, 0.01))


@unseen
def gelu_stack_weights_too_small():
    model = filled(mlp(64, *[64] * 18, 10, act=nn.GELU), partial(nn.init.normal_, std=0.02))
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


@unseen
def kelvin_and_pascal():
    inputs, targets = curve()
    raw = torch.cat([300 + 5 * inputs[:, :4], 101_325 + 500 * inputs[:, 4:]], 1)
    model = mlp(8, 64, 64, 1)
    return Training(model, raw, targets, functional.mse_loss, adam(model, 1e-2))


@unseen
def prices_as_targets():
    inputs, targets = curve()
    model = mlp(8, 64, 1)
    return Training(model, inputs, 5e4 * targets + 3e5, functional.mse_loss, adam(model))


@unseen
def tanh_output_of_temperatures():
    inputs, targets = curve()
    model = mlp(8, 64, 1, last=nn.Tanh())
    return Training(model, inputs, 10 * targets + 20, functional.mse_loss, adam(model, 1e-2))


@unseen
def sigmoid_twice():
    inputs, labels = rings()
    model = mlp(2, 32, 1, last=nn.Sigmoid())

    def loss(out, y):
        return functional.binary_cross_entropy_with_logits(out[:, 0], y.float())

    return Training(model, inputs, labels, loss, adam(model, 1e-2))


@unseen
def head_replaced_after_the_optimizer():
    model = mlp(64, 64, 64, 10)
    optimizer = adam(model, 1e-2)
    for index in (0, 2, 4):
        model[index] = copy.deepcopy(model[index])
    return Training(model, *prototypes(), functional.cross_entropy, optimizer)


@unseen
def cnn_weights_of_spread_one():
    model = nn.Sequential(
        convolutions(3, 16, 16, 16, 16, norm=False), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 10)
    )
    filled(model, nn.init.normal_)
    return Training(model, *pictures(), functional.cross_entropy, sgd(model, 0.01), rows=32)


@unseen
def transformer_rate_of_a_third():
    model = Attention(pre=True, layers=3)
    return Training(model, *waves(), functional.mse_loss, torch.optim.AdamW(model.parameters(), 0.3), rows=32)


@unseen
def recurrent_module_explodes():
    model = Recurrent(nn.RNN, nonlinearity="relu")
    model.rnn.weight_hh_l0.data.copy_(nn.init.orthogonal_(torch.empty(32, 32), 2.5))
    inputs, targets = waves(steps=40)
    return Training(model, inputs, targets, functional.mse_loss, sgd(model, 0.01), rows=32)


@unseen
def forget_gates_closed():
    model = Recurrent(nn.LSTM)
    for name, param in model.rnn.named_parameters():
        if "bias" in name:
            param.data[32:64] = -3.0
    inputs, _ = waves(rows=256, steps=25)
    return Training(model, inputs, 2 * inputs[:, 0, :1], functional.mse_loss, adam(model, 1e-2))


@unseen
def recurrent_weights_of_spread_one():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.leave = nn.RNNCell(2, 32, nonlinearity="relu"), nn.Linear(32, 1)
            nn.init.normal_(self.cell.weight_hh)

        def forward(self, x):
            state = None
            for step in x.unbind(1):
                state = self.cell(step, state)
            return self.leave(state)

    model = Cell()
    return Training(model, *adding(40), functional.mse_loss, adam(model, 3e-3))


@unseen
def half_precision_pixels():
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)).half()
    inputs, labels = prototypes()

    def loss(out, y):
        return functional.cross_entropy(out.float(), y)

    return Training(model, (2e4 * inputs).half(), labels, loss, sgd(model, 0.05))


@unseen
def climbing_sgd():
    model = mlp(8, 64, 1)
    return Training(model, *curve(), functional.mse_loss, sgd(model, 0.02, maximize=True, momentum=0.9))


@unseen
def sgd_rate_far_too_small():
    model = mlp(64, 64, 10)
    return Training(model, *prototypes(), functional.cross_entropy, sgd(model, 1e-4))
