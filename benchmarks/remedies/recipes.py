"""Faulty trainings that a setting, a start or a scale can cure, rebuilt small from public fault benchmarks.

Each is named after what is wrong with it. Those that need another line of code or another architecture (a softmax
over one unit, a detached output) are no recipes here: nothing that could be tried would cure them.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.remedies.data import blobs, pictures, prototypes, rings
from benchmarks.remedies.healthy import adam, mlp, sgd
from benchmarks.remedies.training import Builder, Training

RECIPES: dict[str, Builder] = {}


def recipe(build: Builder) -> Builder:
    """Add it to the collection."""
    RECIPES[build.__name__] = build
    return build


def filled(model: nn.Module, fill: Any) -> nn.Module:
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            fill(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


he = partial(filled, fill=partial(nn.init.kaiming_uniform_, nonlinearity="relu"))


def tiny(model: nn.Module) -> nn.Module:
    return filled(model, partial(nn.init.uniform_, a=-0.05, b=0.05))


def binary(out: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy(out[:, 0].clamp(1e-7, 1 - 1e-7), y.float())


@recipe
def deep_sigmoid_narrow_adam():
    model = he(mlp(2, *[5] * 11, 3, act=nn.Sigmoid))
    return Training(model, *blobs(), functional.cross_entropy, adam(model))


@recipe
def deep_sigmoid_narrow_sgd():
    model = he(mlp(2, *[5] * 13, 1, act=nn.Sigmoid, last=nn.Sigmoid()))
    inputs, labels = rings()
    return Training(model, inputs, labels, binary, sgd(model, 0.1))


@recipe
def relu_weights_too_small():
    model = tiny(mlp(2, *[5] * 8, 3))
    return Training(model, *blobs(), functional.cross_entropy, adam(model, 1e-2))


@recipe
def narrow_relu_dies():
    model = he(mlp(2, *[5] * 20, 3))
    return Training(model, *blobs(), functional.cross_entropy, adam(model))


@recipe
def very_deep_narrow_relu():
    model = he(mlp(64, *[10] * 34, 10))
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


@recipe
def adam_rate_of_one():
    model = he(mlp(2, *[5] * 5, 3, act=nn.Tanh))
    return Training(model, *blobs(), functional.cross_entropy, adam(model, 1.0), rows=16)


@recipe
def adagrad_far_too_slow():
    model = he(mlp(2, *[5] * 5, 3, act=nn.Tanh))
    return Training(model, *blobs(), functional.cross_entropy, torch.optim.Adagrad(model.parameters(), 1e-4))


def lenet(act, more):
    layers = [
        nn.Conv2d(3, 8, 3),
        act(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        act(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers, mlp(64, *[84] * more, 10, act=act))


@recipe
def sigmoid_cnn():
    model = he(lenet(nn.Sigmoid, 8))
    return Training(model, *pictures(), functional.cross_entropy, adam(model))


@recipe
def deep_cnn_weights_too_small():
    model = tiny(lenet(nn.ReLU, 20))
    return Training(model, *pictures(), functional.cross_entropy, adam(model))


@recipe
def linear_rate_of_three():
    model = nn.Sequential(nn.Linear(64, 30), nn.Linear(30, 10))
    for module in model:
        nn.init.normal_(module.weight)
    inputs, labels = prototypes()
    targets = functional.one_hot(labels, 10).float()
    return Training(model, inputs, targets, functional.mse_loss, sgd(model, 3.0), rows=32)


@recipe
def parabola_raw_targets():
    inputs = torch.arange(0, 5, 0.1)[:, None]
    targets = 5 * inputs**2 + torch.randn(50, 1) ** 3
    model = mlp(1, 50, 30, 1)
    return Training(model, inputs, targets, functional.mse_loss, sgd(model, 0.1), rows=50)


@recipe
def exclusive_or_absolute_loss():
    inputs = torch.tensor([[1.0, 1], [1, 0], [0, 0], [0, 1]]).repeat(8, 1)
    targets = (inputs.sum(1, keepdim=True) == 1).float()
    model = mlp(2, 4, 1, act=nn.Sigmoid, last=nn.Sigmoid())
    optimizer = sgd(model, 0.05, momentum=0.11, nesterov=True)
    return Training(model, inputs, targets, functional.l1_loss, optimizer, rows=32)


@recipe
def fourth_power_raw():
    inputs = torch.arange(-100, 100, 0.5)[:, None]
    model = nn.Sequential(nn.Linear(1, 50), nn.Sigmoid(), nn.Linear(50, 50), nn.ELU(), nn.Linear(50, 1))
    shuffled = inputs[torch.randperm(400)]
    return Training(model, shuffled, shuffled**4, functional.mse_loss, adam(model), rows=200)


@recipe
def sigmoid_output_large_targets():
    inputs = torch.linspace(-1, 1, 200)[torch.randperm(200)][:, None]
    model = mlp(1, 5, 1, act=nn.Sigmoid, last=nn.Sigmoid())
    return Training(model, inputs, 15 * inputs + 17, functional.mse_loss, adam(model, 0.02))


@recipe
def raw_inputs_and_targets():
    inputs = 100 * torch.rand(300, 2)
    model = mlp(2, 16, 1)
    return Training(model, inputs, inputs.sum(1, keepdim=True), functional.mse_loss, sgd(model, 0.01))


@recipe
def pixels_to_255():
    inputs, labels = prototypes()
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 10))
    return Training(model, 255 * inputs, labels, functional.cross_entropy, sgd(model, 0.05))


@recipe
def tanh_on_raw_measurements():
    inputs = 1e4 * torch.rand(400, 3)
    targets = ((inputs @ torch.tensor([2.0, 1.0, 0.5])) > 17500).long()
    model = mlp(3, 16, 2, act=nn.Tanh)
    return Training(model, inputs, targets, functional.cross_entropy, adam(model, 1e-2))


@recipe
def cnn_momentum_too_fast():
    model = lenet(nn.ReLU, 1)
    return Training(
        model, *pictures(), functional.cross_entropy, sgd(model, 0.5, momentum=0.9, nesterov=True)
    )


@recipe
def adam_rate_of_a_half_kills_units():
    model = mlp(64, 100, 10)
    inputs, labels = prototypes()
    targets = functional.one_hot(labels, 10).float()
    return Training(model, inputs, targets, functional.mse_loss, adam(model, 0.5))


@recipe
def softmax_twice():
    model = mlp(64, 64, 10, last=nn.Softmax(1))
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


@recipe
def adam_rate_of_a_thousand():
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 128), nn.ReLU(), nn.Linear(128, 10))
    return Training(model, *pictures(), functional.cross_entropy, adam(model, 1e3))


@recipe
def climbs_the_loss():
    model = mlp(64, 64, 10)
    return Training(model, *prototypes(), functional.cross_entropy, adam(model, 1e-2, maximize=True))


@recipe
def frozen_by_mistake():
    model = mlp(64, 64, 64, 10)
    optimizer = adam(model, 1e-2)
    for param in model.parameters():
        param.requires_grad_(False)
    model[-1].bias.requires_grad_(True)
    return Training(model, *prototypes(), functional.cross_entropy, optimizer)


@recipe
def optimizer_of_a_copy():
    model = mlp(64, 64, 10)
    optimizer = adam(copy.deepcopy(model), 1e-2)
    return Training(model, *prototypes(), functional.cross_entropy, optimizer)


@recipe
def logarithm_of_softmax():
    model = mlp(64, 64, 10)
    inputs, labels = prototypes()

    def loss(out, y):
        return -(functional.one_hot(y, 10) * out.softmax(1).clamp_min(1e-30).log()).sum(1).mean()

    return Training(model, 50 * inputs, labels, loss, sgd(model, 1.0))


@recipe
def half_precision_overflows():
    model = mlp(64, 64, 10).half()
    inputs, labels = prototypes()
    return Training(
        model,
        (3e4 * inputs).half(),
        labels,
        lambda out, y: functional.cross_entropy(out.float(), y),
        sgd(model, 0.1),
    )


@recipe
def half_precision_loses_epsilon():
    model = mlp(64, 64, 10).half()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, foreach=False)
    inputs, labels = prototypes()
    return Training(
        model, inputs.half(), labels, lambda out, y: functional.cross_entropy(out.float(), y), optimizer
    )


class Loop(nn.Module):
    def __init__(self, scale, act, width=32):
        super().__init__()
        self.enter, self.recur = nn.Linear(2, width), nn.Linear(width, width, bias=False)
        self.leave, self.act, self.width = nn.Linear(width, 1), act, width
        nn.init.orthogonal_(self.recur.weight, gain=scale)

    def forward(self, x):
        state = torch.zeros(len(x), self.width)
        for step in x.unbind(1):
            state = self.act(self.enter(step) + self.recur(state))
        return self.leave(state)


def adding(steps):
    """The sum of the two numbers that are marked."""
    inputs = torch.rand(256, steps, 2)
    inputs[..., 1] = 0
    inputs[:, 1, 1] = inputs[:, -2, 1] = 1
    return inputs, (inputs[..., 0] * inputs[..., 1]).sum(1, keepdim=True)


@recipe
def recurrent_relu_explodes():
    model = Loop(2.5, torch.relu)
    return Training(model, *adding(60), functional.mse_loss, sgd(model, 0.01))


@recipe
def recurrent_linear_explodes():
    model = Loop(1.1, lambda value: value)
    return Training(model, *adding(60), functional.mse_loss, sgd(model, 0.01))


@recipe
def recurrent_tanh_explodes():
    model = Loop(3.0, torch.tanh)
    return Training(model, *adding(30), functional.mse_loss, adam(model, 1e-2))


@recipe
def relu_weights_of_spread_one():
    model = filled(mlp(64, *[64] * 30, 10), nn.init.normal_)
    return Training(model, *prototypes(), functional.cross_entropy, sgd(model, 0.01))


@recipe
def deep_tanh_weights_too_small():
    model = filled(mlp(64, *[64] * 30, 10, act=nn.Tanh), partial(nn.init.normal_, std=0.01))
    return Training(model, *prototypes(), functional.cross_entropy, sgd(model, 0.05))


class Blocks(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.blocks = nn.ModuleList([he(mlp(64, 64, 64)) for _ in range(count)])
        self.leave = nn.Linear(64, 10)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x)


@recipe
def residual_blocks_without_norm():
    model = Blocks(60)
    return Training(model, *prototypes(), functional.cross_entropy, sgd(model, 0.01))


def plain_cnn(count, *, norm):
    layers = [nn.Conv2d(3, 16, 3, padding=1)]
    for _ in range(count):
        layers += [nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)] + ([nn.BatchNorm2d(16)] if norm else [])
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 10))


@recipe
def deep_plain_cnn():
    model = plain_cnn(20, norm=False)
    return Training(model, *pictures(160), functional.cross_entropy, sgd(model, 0.05), rows=32)


@recipe
def batchnorm_cnn_rate_of_one():
    model = plain_cnn(10, norm=True)
    return Training(model, *pictures(160), functional.cross_entropy, sgd(model, 5.0, momentum=0.9), rows=32)


class Encoder(nn.Module):
    def __init__(self, *, pre, layers):
        super().__init__()
        self.enter = nn.Linear(16, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=pre)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.leave = nn.Linear(32, 10)

    def forward(self, x):
        return self.leave(self.body(self.enter(x.view(-1, 4, 16))).mean(1))


@recipe
def post_norm_transformer_without_warm_up():
    model = Encoder(pre=False, layers=8)
    return Training(model, *prototypes(), functional.cross_entropy, adam(model, 1e-2), rows=32)


@recipe
def pre_norm_transformer_too_fast():
    model = Encoder(pre=True, layers=4)
    return Training(model, *prototypes(), functional.cross_entropy, adam(model, 0.3), rows=32)
