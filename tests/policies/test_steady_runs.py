"""Real trainings and real optimizers under `steady`: what a network, a schedule or an optimizer may be."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tests.policies.adapters import Lora
from tests.policies.streams import patient
from torch import nn, optim
from torch.nn.functional import cross_entropy, mse_loss

import steadygrad as sg
from steadygrad.policies.steady import CALM, rho_of

GUESS = math.log(10)


class Skip(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.body(x)


class Mixture(nn.Module):
    """The two best of eight experts, beside a skip."""

    def __init__(self, width, experts=8):
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.experts = nn.ModuleList(mlp(width, 2 * width, width) for _ in range(experts))

    def forward(self, x):
        weights = self.router(x).softmax(-1)
        best = weights.topk(2, -1)
        gate = torch.zeros_like(weights).scatter(-1, best.indices, best.values)
        return x + sum(gate[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


def mlp(*sizes):
    layers = [nn.Linear(sizes[0], sizes[1])]
    for fan_in, fan_out in itertools.pairwise(sizes[1:]):
        layers += [nn.ReLU(), nn.Linear(fan_in, fan_out)]
    return nn.Sequential(*layers)


def resnet(layers, channels, *, norm):
    def conv():
        one = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
        return [one, nn.BatchNorm2d(channels)] if norm else [one]

    blocks = [nn.Sequential(Skip(*conv(), nn.ReLU(), *conv()), nn.ReLU()) for _ in range((layers - 2) // 2)]
    entry = [nn.Unflatten(1, (1, 8)), nn.Conv2d(1, channels, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*entry, *blocks, nn.Flatten(), nn.Linear(16 * channels, 10))


def adapted():
    wrap = [
        Skip(nn.LayerNorm(32), Lora(nn.Linear(32, 32)), nn.ReLU(), Lora(nn.Linear(32, 32))) for _ in range(8)
    ]
    return nn.Sequential(nn.Flatten(), Lora(nn.Linear(64, 32)), *wrap, nn.Linear(32, 10))


def mixture():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), *[Mixture(32) for _ in range(4)], nn.Linear(32, 10))


def digits():
    found = pytest.importorskip("sklearn.datasets").load_digits()
    return torch.tensor(found.images, dtype=torch.float32) / 16, torch.tensor(found.target)


def held_out(make, lr, steps, *, guarded):
    """Loss on digits that weren't trained on, statistics of the batch, SGD with momentum."""
    images, labels = digits()
    torch.manual_seed(0)
    model, g = make(), torch.Generator().manual_seed(1)
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr, momentum=0.9)
    guard = sg.guard(model, optimizer, policy=sg.policies.steady(), recover=False) if guarded else None
    for _ in range(steps):
        chosen = torch.randint(1400, (32,), generator=g)
        optimizer.zero_grad()
        cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    if guard is not None:
        guard.close()
    with torch.no_grad():
        return float(cross_entropy(model(images[1400:]), labels[1400:]))


@pytest.mark.parametrize(
    ("make", "lr", "steps", "reached"),
    [
        (partial(resnet, 100, 4, norm=True), 0.05, 40, 2.0),
        (partial(resnet, 50, 8, norm=False), 0.3, 70, 2.0),
        (adapted, 1.0, 150, 0.8),
        (mixture, 0.7, 100, 1.0),
    ],
    ids=["100 layers with BatchNorm", "50 layers without", "adapters", "experts"],
)
def test_deep_networks_adapters_and_experts_learn_at_a_rate_that_loses_them(make, lr, steps, reached):
    assert not held_out(make, lr, steps, guarded=False) < 0.9 * GUESS
    assert held_out(make, lr, steps, guarded=True) < reached


RATES, MOMENTA = st.floats(1e-4, 10.0), st.sampled_from([0.0, 0.5, 0.9, 0.99])


@patient
@given(
    st.lists(st.tuples(RATES, MOMENTA), min_size=1, max_size=3),
    st.lists(st.tuples(st.floats(1e-4, 1e4), st.floats(0.1, 10.0)), min_size=3, max_size=20),
    st.booleans(),
)
@example([(8.0, 0.5), (0.5, 0.99)], [(1.0, 1.0), (1.0, 0.109375), (1.0, 7.0)], False)
def test_no_step_of_sgd_is_longer_than_its_budget(groups, steps, nesterov):
    """Each group with a rate and a momentum of its own, gradients and schedule of any size."""
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(4, 4, bias=False) for _ in groups])
    optimizer = optim.SGD(
        [
            {"params": layer.weight, "lr": lr, "momentum": mu, "nesterov": nesterov and mu > 0.0}
            for layer, (lr, mu) in zip(model, groups, strict=True)
        ]
    )
    params = list(model.parameters())
    with sg.guard(model, optimizer, policy=sg.policies.steady(), recover=False, overhead=0.5):
        for size, faster in steps:
            before = [p.detach().clone() for p in params]
            weights = math.hypot(*(max(float(p.norm()), math.sqrt(4 / 3)) for p in before))
            for p in params:
                p.grad = torch.randn_like(p) * size
            for group, (lr, _) in zip(optimizer.param_groups, groups, strict=True):
                group["lr"] = lr * faster
            optimizer.step()
            moved = math.hypot(
                *(float((p.detach() - old).norm()) for p, old in zip(params, before, strict=True))
            )
            assert moved <= CALM * rho_of(len(groups)) * weights * 1.001 + 1e-6


class Lion(optim.Optimizer):
    """The sign of a moving average (Chen et al. 2023): as many write it, with ``betas`` and no second moment."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                p.add_((average * first + p.grad * (1 - first)).sign(), alpha=-group["lr"])
                average.mul_(second).add_(p.grad, alpha=1 - second)


@pytest.mark.parametrize(
    "make",
    [
        partial(optim.AdamW, lr=3e-3),
        partial(optim.AdamW, lr=3e-3, fused=True),
        partial(optim.RMSprop, lr=3e-3),
        partial(optim.Adagrad, lr=0.03),
        partial(Lion, lr=1e-3),
    ],
    ids=["AdamW", "fused", "RMSprop", "Adagrad", "Lion"],
)
@pytest.mark.parametrize("accumulated", [1, 4])
def test_outliers_cost_little_under_optimizers_that_normalise(make, accumulated):
    """Beside plain training: one row in a hundred has a target ten thousand times too large."""

    def trained(*, guarded):
        torch.manual_seed(0)
        model, g = mlp(8, 32, 1), torch.Generator().manual_seed(1)
        optimizer = make(model.parameters())
        guard = sg.guard(model, optimizer, policy=sg.policies.steady(), recover=False) if guarded else None
        for step in range(240 * accumulated):
            x = torch.randn(16, 8, generator=g)
            wrong = torch.rand(16, 1, generator=g) < 0.01
            y = torch.where(wrong, 1e4, x.tanh().sum(1, keepdim=True))
            mse_loss(model(x), y).backward()
            if step % accumulated == accumulated - 1:
                optimizer.step()
                optimizer.zero_grad()
        if guard is not None:
            assert guard.counts.clipped > 0
            guard.close()
        x = torch.randn(512, 8, generator=g)
        with torch.no_grad():
            return float(mse_loss(model(x), x.tanh().sum(1, keepdim=True)))

    plain, steady = trained(guarded=False), trained(guarded=True)
    assert steady < 1.0
    assert plain > 10.0
