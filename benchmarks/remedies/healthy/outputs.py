"""Healthy trainings with outputs, targets or optimizers of their own kind.

Shape legend: N rows, T time steps, D features, C classes or channels.
"""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.remedies.data import curve, prototypes, tokens, waves
from benchmarks.remedies.healthy.zoo import adam, healthy, mlp
from benchmarks.remedies.training import Training


@dataclass
class Answer:
    logits: Tensor
    loss: Tensor


@healthy
def dataclass_output_with_loss():
    class Answers(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(64, 64, 10)

        def forward(self, x, y):
            logits = self.body(x)
            return Answer(logits, functional.cross_entropy(logits, y))

    model = Answers()
    return Training(model, prototypes(), None, None, adam(model))


@healthy
def keyword_batch():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(64, 64, 10)

        def forward(self, *, inputs, labels):
            return {"loss": functional.cross_entropy(self.body(inputs), labels)}

    model = Named()
    inputs, labels = prototypes()
    return Training(model, {"inputs": inputs, "labels": labels}, None, None, adam(model))


@healthy
def policy_gradient():
    model = mlp(8, 32, 4, act=nn.Tanh, last=nn.LogSoftmax(1))
    inputs, _ = curve()
    actions, advantage = torch.randint(0, 4, (320,)), torch.randn(320)
    targets = torch.stack([actions.float(), advantage], 1)

    def loss(out, y):
        return -(out.gather(1, y[:, :1].long())[:, 0] * y[:, 1]).mean()

    return Training(model, inputs, targets, loss, adam(model))


@healthy
def value_network_noisy_targets():
    model = mlp(8, 64, 64, 1, act=nn.Tanh)
    inputs, _ = curve()
    return Training(model, inputs, 10 * torch.randn(320, 1), functional.mse_loss, adam(model, 3e-4))


@healthy
def one_hot_input_wide():
    class OneHot(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(20 * 12, 64, 2)

        def forward(self, ids):
            return self.body(functional.one_hot(ids, 20).float().flatten(1))

    model = OneHot()
    return Training(model, *tokens(), functional.cross_entropy, adam(model))


@healthy
def plain_relu_twelve_layers_he():
    model = mlp(64, *[64] * 11, 10)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return Training(model, *prototypes(), functional.cross_entropy, adam(model, 3e-4))


@healthy
def lbfgs():
    model = mlp(8, 16, 1, act=nn.Tanh)
    return Training(model, *curve(), functional.mse_loss, torch.optim.LBFGS(model.parameters(), 0.5))


@healthy
def mixture_of_experts():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(64, 4)
            self.experts = nn.ModuleList([mlp(64, 32, 10) for _ in range(4)])

        def forward(self, x):
            weights = self.gate(x).softmax(1)
            return sum(weights[:, i : i + 1] * one(x) for i, one in enumerate(self.experts))

    model = Experts()
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


Pair = namedtuple("Pair", ["mean", "spread"])


@healthy
def gaussian_likelihood_namedtuple():
    class Gaussian(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(8, 64, 2)

        def forward(self, x):
            mean, raw = self.body(x).chunk(2, 1)
            return Pair(mean, functional.softplus(raw) + 1e-3)

    model = Gaussian()
    return Training(
        model, *curve(), lambda out, y: functional.gaussian_nll_loss(out.mean, y, out.spread**2), adam(model)
    )


@healthy
def ctc_speech():
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 6), nn.LogSoftmax(2))
    inputs, _ = waves()
    targets = torch.randint(1, 6, (320, 5))

    def loss(out, y):
        rows, steps = out.shape[:2]
        return functional.ctc_loss(
            out.transpose(0, 1), y, torch.full((rows,), steps), torch.full((rows,), 5), zero_infinity=True
        )

    return Training(model, inputs, targets, loss, adam(model), rows=32)
