"""Learning rates that the loss doesn't allow."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adam

from benchmarks.faults.case import faulty
from benchmarks.faults.data import blobs, digits, drawn, images, one_hot, table
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import he, mlp, plain_cnn, small_cnn
from benchmarks.faults.training import Training

TOO_HIGH = ("learning_rate_too_high", "exploding_gradient", "divergence", "oversized_update")


@faulty("rate", *TOO_HIGH, at=0, sudden=True, curable=True)
def linear_net_at_rate_three() -> Training:
    """Stack Overflow 48385830."""
    model = nn.Sequential(nn.Linear(64, 30), nn.Linear(30, 10))
    for param in model.parameters():
        nn.init.normal_(param)
    return Training(model, SGD(model.parameters(), 3.0), drawn(one_hot(digits()), 10), squared)


@faulty("rate", *TOO_HIGH, at=0, sudden=True, curable=True)
def parabola_at_rate_a_tenth() -> Training:
    """Stack Overflow 48934338."""
    x = torch.arange(0, 5, 0.1)[:, None]
    model = mlp([1, 50, 30, 1])
    target = 5 * x**2 + torch.randn(50, 1) ** 3
    return Training(model, SGD(model.parameters(), 0.1), drawn((x, target)), squared)


@faulty("rate", *TOO_HIGH, "loss_spike", curable=True)
def oscillating_tanh() -> Training:
    """AUTOTRAINER's oscillating loss."""
    model = he(mlp([2, 5, 5, 5, 5, 5, 3], nn.Tanh))
    return Training(model, Adam(model.parameters(), 0.5), drawn(blobs(), 8), cross_entropy)


@faulty("rate", *TOO_HIGH, "loss_spike", "dead_units", curable=True)
def cnn_with_momentum() -> Training:
    """Stack Overflow 37624102."""
    model = small_cnn()
    optimizer = SGD(model.parameters(), 0.5, momentum=0.9, nesterov=True)
    return Training(model, optimizer, drawn(images()), cross_entropy)


@faulty("rate", *TOO_HIGH, "dead_units", curable=True)
def keypoints_by_adam_at_a_tenth() -> Training:
    """The facial keypoints question: one huge step, and every unit is dead."""
    model = mlp([64, 100, 30])
    targets = torch.rand(1500, 30)
    return Training(model, Adam(model.parameters(), 0.1), drawn((digits()[0], targets)), squared)


@faulty("rate", *TOO_HIGH, at=0, sudden=True, curable=True)
def linear_net_by_adam_at_thousand() -> Training:
    """UMLAUT B1."""
    model = mlp([64, 48, 48, 10], nn.Identity)
    return Training(model, Adam(model.parameters(), 1e3), drawn(digits()), cross_entropy)


@faulty("rate", *TOO_HIGH, curable=True, steps=40)
def normalised_cnn_at_rate_one() -> Training:
    model = plain_cnn(40, normalised=True)
    return Training(model, SGD(model.parameters(), 1.0), drawn(images()), cross_entropy)


@faulty("rate", *TOO_HIGH, "loss_spike", "nonfinite_loss", at=80, sudden=True)
def schedule_in_wrong_units() -> Training:
    model = mlp([8, 32, 32, 1])
    optimizer = SGD(model.parameters(), 0.02, momentum=0.9)

    def before(step: int) -> None:
        if step == 80:
            optimizer.param_groups[0]["lr"] = 20.0

    return Training(model, optimizer, drawn(table()), squared, before)


@faulty("rate", *TOO_HIGH, at=0, sudden=True, curable=True)
def summed_loss_at_the_rate_of_a_mean() -> Training:
    model = mlp([8, 64, 64, 1])
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    return Training(model, optimizer, drawn(table(), 128), lambda out, y: F.mse_loss(out, y, reduction="sum"))
