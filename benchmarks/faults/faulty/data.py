"""Data that isn't what the network expects."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from benchmarks.faults.case import faulty
from benchmarks.faults.data import blobs, digits, drawn, images, spoiled, table
from benchmarks.faults.losses import clipped_categorical, cross_entropy, squared
from benchmarks.faults.models import mlp, small_cnn
from benchmarks.faults.training import Training, clipped


def _one_infinite(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    inputs[7] = float("inf")
    return inputs, targets


def _one_missing(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    inputs[7, 3] = float("nan")
    return inputs, targets


def _target_missing(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    targets[5] = float("nan")
    return inputs, targets


@faulty("data", "nonfinite_input", at=57, nonfinite=True)
def one_infinite_sample() -> Training:
    model = mlp([64, 64, 64, 10])
    batches = spoiled(drawn(digits()), 57, _one_infinite)
    return Training(model, Adam(model.parameters()), batches, cross_entropy)


@faulty("data", "nonfinite_input", at=57, nonfinite=True)
def one_missing_feature_behind_a_clip() -> Training:
    """pytorch#46849: the clip spreads it."""
    model = mlp([64, 64, 64, 10])
    batches = spoiled(drawn(digits()), 57, _one_missing)
    return Training(model, Adam(model.parameters()), batches, cross_entropy, loop=clipped(1.0))


@faulty("data", "nonfinite_loss", "nonfinite_input", at=40, nonfinite=True)
def one_missing_target() -> Training:
    model = mlp([8, 32, 1])
    batches = spoiled(drawn(table()), 40, _target_missing)
    return Training(model, Adam(model.parameters()), batches, squared)


@faulty("data", "unnormalised_input", "output_range_mismatch", at=0, curable=True)
def raw_pixels_into_sigmoid_classes() -> Training:
    """Stack Overflow 55328966."""
    inputs, labels = digits()
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 10), nn.Sigmoid())
    return Training(model, SGD(model.parameters(), 1e-4), drawn((inputs * 255, labels)), clipped_categorical)


@faulty("data", "unnormalised_input", "unscaled_targets", "exploding_gradient", at=0, curable=True)
def fourth_power_of_a_hundred() -> Training:
    """Stack Overflow 52800582."""
    x = torch.arange(-100, 100, 0.5)[:, None]
    model = nn.Sequential(nn.Linear(1, 50), nn.Sigmoid(), nn.Linear(50, 50), nn.ELU(), nn.Linear(50, 1))
    return Training(model, Adam(model.parameters()), drawn((x, x**4), 64), squared)


@faulty("data", "constant_targets", at=0)
def labels_divided_by_255() -> Training:
    """Stack Overflow 59325381: every label becomes class 0."""
    inputs, labels = digits()
    model = mlp([64, 64, 64, 10])
    return Training(model, Adam(model.parameters()), drawn((inputs, (labels / 255).long())), cross_entropy)


@faulty("data", "unnormalised_input", at=0, curable=True)
def one_column_in_dollars() -> Training:
    inputs, targets = table()
    scales = torch.ones(8)
    scales[2] = 1e4
    model = mlp([8, 32, 32, 1])
    return Training(model, SGD(model.parameters(), 0.01), drawn((inputs * scales, targets)), squared)


@faulty("data", "unnormalised_input", "exploding_gradient", "learning_rate_too_high", at=0, curable=True)
def raw_pixels_into_a_cnn() -> Training:
    inputs, labels = images()
    model = small_cnn()
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    return Training(model, optimizer, drawn((inputs * 255, labels)), cross_entropy)


@faulty("data", "unnormalised_input", "saturated_units", at=0, curable=True)
def raw_measurements_into_tanh() -> Training:
    inputs, labels = blobs()
    model = mlp([2, 16, 16, 3], nn.Tanh)
    return Training(model, SGD(model.parameters(), 0.05), drawn((inputs * 300 + 1000, labels)), cross_entropy)


@faulty("data", "loss_spike", "exploding_gradient", "divergence", at=70, sudden=True)
def targets_of_one_batch_in_wrong_units() -> Training:
    model = mlp([8, 32, 32, 1])
    batches = spoiled(drawn(table()), 70, lambda x, y: (x, y * 1e4))
    return Training(model, SGD(model.parameters(), 0.02, momentum=0.9), batches, squared)
