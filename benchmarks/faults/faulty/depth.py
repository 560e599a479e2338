"""Initialisations that make the signal explode or die on its way through the layers."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Adam

from benchmarks.faults.case import faulty
from benchmarks.faults.data import blobs, digits, drawn, images
from benchmarks.faults.losses import cross_entropy
from benchmarks.faults.models import deep, filled, he, plain_cnn, residual_net, small_cnn
from benchmarks.faults.training import Training

EXPLODES = ("exploding_gradient", "nonfinite_activation", "nonfinite_loss", "nonfinite_gradient")
DIES = ("vanishing_gradient", "dead_units")


@faulty("depth", *EXPLODES, at=0, nonfinite=True, curable=True)
def fifty_relu_layers_from_unit_normal() -> Training:
    model = filled(deep(64, 64, 50, 10, nn.ReLU), nn.init.normal_)
    return Training(model, SGD(model.parameters(), 0.01), drawn(digits()), cross_entropy)


@faulty("depth", *DIES, at=0, curable=True)
def fifty_tanh_layers_too_small() -> Training:
    model = filled(deep(64, 64, 50, 10, nn.Tanh), lambda w: nn.init.normal_(w, 0, 0.01))
    return Training(model, SGD(model.parameters(), 0.01), drawn(digits()), cross_entropy)


@faulty("depth", *EXPLODES, at=0, curable=True)
def hundred_residual_blocks_without_norm() -> Training:
    model = he(residual_net(100))
    return Training(model, SGD(model.parameters(), 0.01), drawn(digits()), cross_entropy)


@faulty("depth", "vanishing_gradient", at=0, place=("0", "2"), curable=True, steps=40)
def forty_plain_convolutions() -> Training:
    model = plain_cnn(40, normalised=False)
    return Training(model, SGD(model.parameters(), 0.1), drawn(images()), cross_entropy)


@faulty("depth", *DIES, at=0, curable=True)
def narrow_relu_too_small() -> Training:
    """AUTOTRAINER, Blob 384108d9."""
    model = filled(deep(2, 5, 8, 3, nn.ReLU), lambda w: nn.init.uniform_(w, -0.05, 0.05))
    return Training(model, Adam(model.parameters()), drawn(blobs()), cross_entropy)


@faulty("depth", *DIES, at=0, curable=True)
def narrow_relu_fifteen_layers() -> Training:
    """AUTOTRAINER, Blob 84c77206."""
    model = he(deep(2, 5, 15, 3, nn.ReLU))
    return Training(model, Adam(model.parameters()), drawn(blobs()), cross_entropy)


@faulty("depth", *DIES, at=0, curable=True)
def cnn_with_twenty_dense_layers_too_small() -> Training:
    """AUTOTRAINER, tmp_lenet5_cifar."""
    model = filled(small_cnn(hidden=20), lambda w: nn.init.uniform_(w, -0.05, 0.05))
    return Training(model, Adam(model.parameters()), drawn(images()), cross_entropy)


@faulty("depth", *EXPLODES, "learning_rate_too_high", at=0, curable=True)
def thirty_linear_layers_of_gain_two() -> Training:
    model = filled(deep(64, 48, 30, 10, nn.Identity), lambda w: nn.init.orthogonal_(w, 2.0))
    return Training(model, SGD(model.parameters(), 0.01), drawn(digits()), cross_entropy)
