"""Nothing differs, nothing fits in size, or the model answers all alike: data and outputs that a loss can't work with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adam

from benchmarks.faults.case import faulty
from benchmarks.faults.data import digits, drawn, images, sequences, table
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import mlp, small_cnn
from benchmarks.faults.training import Training

FAMILY = "answers"


@faulty(FAMILY, "constant_targets", at=0)
def a_column_of_one_class_was_read() -> Training:
    inputs, labels = digits()
    model = mlp([64, 64, 10])
    return Training(model, Adam(model.parameters()), drawn((inputs, labels * 0 + 4), 256), cross_entropy)


@faulty(FAMILY, "constant_input", at=0)
def pictures_that_could_not_be_read() -> Training:
    inputs, labels = images()
    model = small_cnn()
    return Training(model, Adam(model.parameters()), drawn((inputs * 0, labels)), cross_entropy)


@faulty(FAMILY, "constant_input", at=0)
def pixels_divided_as_integers() -> Training:
    inputs, labels = digits()
    model = mlp([64, 64, 10], nn.Tanh)
    whole = ((inputs * 254).long() // 255).float()
    return Training(model, SGD(model.parameters(), 0.1), drawn((whole, labels)), cross_entropy)


@faulty(FAMILY, "constant_input", at=0)
def one_example_again_and_again() -> Training:
    inputs, labels = digits()
    model = mlp([64, 64, 10])
    first = inputs[:1].expand_as(inputs)
    return Training(model, Adam(model.parameters()), drawn((first, labels)), cross_entropy)


@faulty(FAMILY, "unscaled_targets", at=0, curable=True)
def prices_in_dollars() -> Training:
    inputs, targets = table()
    model = mlp([8, 32, 32, 1])
    return Training(model, Adam(model.parameters(), 1e-2), drawn((inputs, 2e5 * targets + 3e5)), squared)


@faulty(FAMILY, "unscaled_targets", at=0, curable=True)
def seconds_of_a_day_by_descent() -> Training:
    inputs, targets = table()
    model = mlp([8, 32, 32, 1], nn.Tanh)
    return Training(model, SGD(model.parameters(), 0.05), drawn((inputs, 2e4 * targets + 43_200)), squared)


@faulty(FAMILY, "unscaled_targets", at=0, curable=True)
def distances_in_metres_by_absolute_error() -> Training:
    inputs, targets = table()
    model = mlp([8, 32, 32, 1])
    return Training(model, Adam(model.parameters()), drawn((inputs, 5e3 * targets)), F.l1_loss)


class Attention(nn.Module):
    """One head, its scores multiplied by a factor."""

    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        for layer in (self.query, self.key):
            nn.init.xavier_uniform_(layer.weight)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Attend to all positions."""
        scores = self.query(x) @ self.key(x).transpose(1, 2) * self.factor
        return torch.softmax(scores, -1) @ self.value(x)


class Attending(nn.Module):
    """Embedding of features, norm, attention, mean, classes."""

    def __init__(self, factor: float, width: int = 256) -> None:
        super().__init__()
        self.rise, self.norm = nn.Linear(8, width), nn.LayerNorm(width)
        self.attention, self.head = Attention(width, factor), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of four classes."""
        rows: Tensor = self.head(self.attention(self.norm(self.rise(x))).mean(1))
        return rows


@faulty(FAMILY, "sharp_softmax", at=0, place=("attention",))
def attention_without_the_root_of_its_width() -> Training:
    model = Attending(1.0)
    return Training(model, Adam(model.parameters(), 1e-4), drawn(sequences()), cross_entropy)


@faulty(FAMILY, "sharp_softmax", at=0)
def classes_at_a_temperature_of_a_thousandth() -> Training:
    model = mlp([64, 64, 10])

    def loss(out: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(out / 1e-3, labels)

    return Training(model, SGD(model.parameters(), 1e-3), drawn(digits()), loss)


class OverTheRows(nn.Module):
    """The mean is taken over the wrong dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp([8, 32, 4])

    def forward(self, x: Tensor) -> Tensor:
        """The same scores for every row."""
        pooled = x.mean(dim=(0, 1), keepdim=True).expand_as(x).mean(1)
        rows: Tensor = self.body(pooled)
        return rows


@faulty(FAMILY, "constant_prediction", at=0)
def averaged_over_the_rows_of_the_batch() -> Training:
    model = OverTheRows()
    return Training(model, Adam(model.parameters(), 1e-2), drawn(sequences()), cross_entropy)
