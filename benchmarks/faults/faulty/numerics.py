"""Operations without a finite value or a finite derivative at what they are given."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adam

from benchmarks.faults.case import faulty
from benchmarks.faults.data import digits, drawn, spoiled, table
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import mlp
from benchmarks.faults.training import Batches, Loss, Training

GRADIENT = ("nonfinite_gradient",)
LOSS = ("nonfinite_loss",)


def _with(loss: Loss, batches: Batches | None = None) -> Training:
    model = mlp([64, 64, 64, 10])
    return Training(model, Adam(model.parameters()), batches or drawn(digits()), loss)


@faulty("numerics", *GRADIENT, at=0, nonfinite=True)
def root_of_a_zero_penalty() -> Training:
    return _with(lambda out, y: cross_entropy(out, y) + ((out - out) ** 2).sum().sqrt())


@faulty("numerics", *LOSS, "learning_rate_too_high", nonfinite=True, curable=True)
def logarithm_of_softmax() -> Training:
    model = mlp([64, 64, 64, 10])

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return -(F.one_hot(y, 10) * torch.log(F.softmax(out, -1))).sum(1).mean()

    inputs, labels = digits()
    return Training(model, SGD(model.parameters(), 1.0), drawn((inputs * 8, labels)), loss)


@faulty("numerics", *GRADIENT, at=0, nonfinite=True)
def where_hides_a_logarithm() -> Training:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        margin = out - out.detach()
        return cross_entropy(out, y) + torch.where(margin > 0, margin.log(), torch.zeros_like(out)).mean()

    return _with(loss)


@faulty("numerics", *GRADIENT, at=0, nonfinite=True)
def root_of_a_constant_variance() -> Training:
    return _with(lambda out, y: cross_entropy(out, y) + 0.01 * (out * 0).var().sqrt())


@faulty("numerics", *LOSS, at=33, nonfinite=True)
def mean_over_no_positives() -> Training:
    """ultralytics#490: a batch without a target."""

    def loss(out: Tensor, y: Tensor) -> Tensor:
        positive = (y == 3).float()
        return (F.cross_entropy(out, y, reduction="none") * positive).sum() / positive.sum()

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(digits())(step)
        return (x, torch.where(y == 3, 4, y)) if step == 33 else (x, torch.where(y % 2 == 0, 3, y))

    return _with(loss, batches)


class _Normalised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.square().sum(-1, keepdim=True).sqrt()


@faulty("numerics", "nonfinite_activation", at=25, nonfinite=True, place=("normalise",))
def length_of_an_empty_row() -> Training:
    model = nn.Sequential()
    model.add_module("embed", nn.Linear(64, 32, bias=False))
    model.add_module("normalise", _Normalised())
    model.add_module("head", nn.Linear(32, 10))
    batches = spoiled(drawn(digits()), 25, lambda x, y: (x * (torch.arange(len(x)) != 4)[:, None], y))
    return Training(model, Adam(model.parameters()), batches, cross_entropy)


class _Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.mean, self.spread = nn.Linear(64, 32), nn.Linear(32, 4), nn.Linear(32, 4)
        self.decoder = nn.Linear(4, 64)
        self.spread.bias.data.fill_(200.0)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.encoder(x))
        mean, log_var = self.mean(hidden), self.spread(hidden)
        return self.decoder(mean + torch.exp(log_var) * torch.randn_like(mean))


@faulty("numerics", "nonfinite_activation", at=0, nonfinite=True, place=("the model",))
def spread_of_an_autoencoder_overflows() -> Training:
    model = _Autoencoder()
    return Training(model, Adam(model.parameters()), drawn((digits()[0], digits()[0])), squared)


class _Standardised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.var(0).sqrt() + 1e-5)


@faulty("numerics", "nonfinite_activation", at=46, nonfinite=True, place=("standardise",))
def variance_of_a_last_batch_of_one() -> Training:
    model = nn.Sequential()
    model.add_module("standardise", _Standardised())
    model.add_module("body", mlp([8, 32, 1]))
    batches = spoiled(drawn(table()), 46, lambda x, y: (x[:1], y[:1]))
    return Training(model, Adam(model.parameters()), batches, squared)


@faulty("numerics", *GRADIENT, at=0, nonfinite=True)
def angle_between_equals() -> Training:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        cosine = 1.0 + (out - out.detach()).sum(-1)  # of each row with itself
        return cross_entropy(out, y) + 0.1 * torch.acos(cosine).mean()

    return _with(loss)
