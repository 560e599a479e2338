"""Real trainings under `auto`: the healthy ones bit for bit as without it, the others saved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache, partial
from statistics import median

import pytest
import torch
from tests.monitor.workloads import outcome
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy, mse_loss

import steadygrad as sg

Batch = Callable[[torch.Generator], tuple[Tensor, Tensor]]

_TEACHER = torch.randn(20, 10, generator=torch.Generator().manual_seed(3)) / 20**0.5


def classes(g, size=32):
    x = torch.randn(size, 20, generator=g)
    return x, (x @ _TEACHER).argmax(1)


def fixed(make):
    """The same batch for ever: a network that memorises it has norms that fall a thousandfold."""
    return lambda _: make(torch.Generator().manual_seed(5))


def letters(g, size=8, length=16):
    text = torch.arange(4096).mul(2654435761).remainder(97).remainder(24)
    start = torch.randint(0, len(text) - length - 1, (size, 1), generator=g)
    x = text[start + torch.arange(length + 1)]
    return x[:, :-1], x[:, 1:]


def images(g):
    x, y = classes(g)
    return x[:, :16].reshape(-1, 1, 4, 4), y


@cache
def _digits():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    return torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target)


def digits(g, size=64):
    images, labels = _digits()
    chosen = torch.randint(1500, (size,), generator=g)
    return images[chosen, None], labels[chosen]


class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.embedding, self.cell, self.head = (
            nn.Embedding(24, 16),
            cell(16, 32, 2, batch_first=True),
            nn.Linear(32, 24),
        )

    def forward(self, x):
        return self.head(self.cell(self.embedding(x))[0]).flatten(0, 1)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 2, 64, 0.0, batch_first=True, norm_first=True)
        self.embedding, self.body = (
            nn.Embedding(24, 32),
            nn.TransformerEncoder(layer, 4, enable_nested_tensor=False),
        )
        self.head = nn.Linear(32, 24)

    def forward(self, x):
        return self.head(self.body(self.embedding(x))).flatten(0, 1)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.entry, self.head = nn.Linear(20, 16), nn.Linear(16, 10)
        block = [nn.LayerNorm(16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)]
        self.blocks = nn.ModuleList(nn.Sequential(*[_again(one) for one in block]) for _ in range(20))

    def forward(self, x):
        x = self.entry(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def _again(layer):
    return (
        type(layer)(16)
        if isinstance(layer, nn.LayerNorm)
        else nn.ReLU()
        if isinstance(layer, nn.ReLU)
        else nn.Linear(16, 16)
    )


def mlp(*sizes, act=nn.ReLU, gain=None):
    layers = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), act()]
        if gain is not None:
            nn.init.normal_(layers[-2].weight, std=gain / math.sqrt(fan_in))
    return nn.Sequential(*layers[:-1])


def zeros():
    layer = nn.Linear(20, 10)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def plain_cnn(*, zero_head=False):
    """No normalisation: its loss stays on a plateau for some twenty steps, then falls at once."""
    head = nn.Linear(512, 10)
    if zero_head:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    body = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*body, nn.Flatten(), head)


def lenet():
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 3, padding=1)]
    layers += [nn.Tanh(), nn.Flatten(), nn.Linear(256, 84), nn.Tanh(), nn.Linear(84, 10)]
    return nn.Sequential(*layers)


def flat_mlp():
    return nn.Sequential(nn.Flatten(), *mlp(64, 128, 128, 10))


SGD = partial(optim.SGD, momentum=0.9)
HEALTHY = {
    "MLP, SGD with momentum": (lambda: mlp(20, 64, 64, 10), partial(SGD, lr=0.05), classes, 200),
    "MLP, plain SGD, batch of one": (
        lambda: mlp(20, 32, 10),
        partial(optim.SGD, lr=0.01),
        partial(classes, size=1),
        300,
    ),
    "MLP, RMSprop": (lambda: mlp(20, 64, 10), partial(optim.RMSprop, lr=1e-3), classes, 200),
    "logistic regression from zero, SGD": (zeros, partial(SGD, lr=0.1), classes, 200),
    "CNN with batch norm, SGD": (cnn, partial(SGD, lr=0.1, weight_decay=5e-4, nesterov=True), images, 100),
    "LSTM memorises a batch, Adam": (
        lambda: Recurrent(nn.LSTM),
        partial(optim.Adam, lr=3e-3),
        fixed(letters),
        150,
    ),
    "GRU, AdamW": (lambda: Recurrent(nn.GRU), partial(optim.AdamW, lr=3e-3), letters, 100),
    "transformer memorises a batch, AdamW": (Transformer, partial(optim.AdamW, lr=1e-3), fixed(letters), 100),
    "residual MLP memorises a batch, AdamW": (Residual, partial(optim.AdamW, lr=1e-3), fixed(classes), 100),
    "plain CNN leaves its plateau, SGD": (plain_cnn, partial(SGD, lr=0.1), digits, 150),
    "plain CNN, small batches": (plain_cnn, partial(SGD, lr=0.05), partial(digits, size=16), 100),
    "plain CNN, head from zero": (partial(plain_cnn, zero_head=True), partial(SGD, lr=0.1), digits, 100),
    "LeNet, SGD": (lenet, partial(SGD, lr=0.2), digits, 150),
    "MLP on digits, SGD": (flat_mlp, partial(SGD, lr=0.2), digits, 150),
    "MLP on digits, small batches": (flat_mlp, partial(SGD, lr=0.1), partial(digits, size=16), 150),
    "GRU leaves its plateau, SGD": (lambda: Recurrent(nn.GRU), partial(SGD, lr=0.5), letters, 150),
    "residual MLP, SGD": (Residual, partial(SGD, lr=0.02), classes, 100),
}


def trained(make, make_optimizer, batch, steps, loss_of, *, guarded, seed=0):
    torch.manual_seed(seed)
    model = make()
    optimizer, g = make_optimizer(model.parameters()), torch.Generator().manual_seed(seed + 1)
    guard = sg.guard(model, optimizer) if guarded else None
    losses = []
    for _ in range(steps):
        x, y = batch(g)
        optimizer.zero_grad()
        loss = loss_of(model(x), y.flatten() if y.dtype == torch.long else y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if guard is not None:
        guard.close()
    return model, optimizer, losses, guard


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_the_same_to_the_last_bit(name):
    plain = trained(*HEALTHY[name], cross_entropy, guarded=False)
    model, optimizer, losses, guard = trained(*HEALTHY[name], cross_entropy, guarded=True)
    assert losses[-1] < losses[0] or "one" in name
    assert losses == plain[2]
    assert outcome(model, optimizer) == outcome(plain[0], plain[1])
    assert guard.counts.clipped == guard.counts.skipped == 0


def regression(g, size=32):
    x = torch.randn(size, 20, generator=g)
    return x, torch.tanh(x @ _TEACHER)


def with_outliers(g, times=300.0):
    x, y = regression(g)
    wrong = torch.rand(len(x), 1, generator=g) < 0.01
    return x, torch.where(wrong, times * y, y)


UNHEALTHY = {
    "deep plain MLP, bad weights": (
        lambda: mlp(20, *[40] * 11, 10, gain=1.9),
        partial(SGD, lr=0.03),
        classes,
        300,
    ),
    "outliers, SGD": (lambda: mlp(20, 64, 64, 10, act=nn.Tanh), partial(SGD, lr=0.2), with_outliers, 300),
    "rate far too high, SGD": (lambda: mlp(20, 64, 64, 10), partial(SGD, lr=5.0), regression, 150),
    "outliers, Adam": (
        lambda: mlp(20, 64, 10),
        partial(optim.Adam, lr=3e-3),
        partial(with_outliers, times=1e5),
        300,
    ),
}


@pytest.mark.parametrize("name", UNHEALTHY)
def test_a_run_that_plain_training_loses_is_saved(name):
    batch = UNHEALTHY[name][2]
    clean, loss_of = (classes, cross_entropy) if batch is classes else (regression, mse_loss)
    x, y = clean(torch.Generator().manual_seed(99), size=512)
    guess = math.log(10) if batch is classes else float(y.var())

    def lost(seed, *, guarded):
        model = trained(*UNHEALTHY[name], loss_of, guarded=guarded, seed=seed)[0]
        with torch.no_grad():
            return float(loss_of(model(x), y)) / guess

    assert not lost(0, guarded=False) < 0.95
    # Training on the edge is chaos: another processor's last bit makes another run of it.
    assert median(lost(seed, guarded=True) for seed in range(3)) < 0.88


def test_a_high_rate_for_the_biases_alone_carries_the_weights_nowhere():
    def run(*, guarded):
        torch.manual_seed(0)
        model = mlp(20, 64, 64, 10)
        biases = [p for p in model.parameters() if p.dim() == 1]
        weights = [p for p in model.parameters() if p.dim() > 1]
        optimizer = optim.AdamW([{"params": biases, "lr": 0.1}, {"params": weights}], lr=1e-4)
        guard = sg.guard(model, optimizer) if guarded else None
        g = torch.Generator().manual_seed(1)
        for _ in range(20):
            x, y = classes(g)
            optimizer.zero_grad()
            cross_entropy(model(x), y.flatten()).backward()
            optimizer.step()
        if guard is not None:
            guard.close()
            assert guard.counts.lowered == guard.counts.clipped == 0
        return outcome(model, optimizer)

    assert run(guarded=True) == run(guarded=False)
