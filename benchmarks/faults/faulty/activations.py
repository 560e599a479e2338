"""Activations that blow up, saturate or die."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Adam

from benchmarks.faults.case import faulty
from benchmarks.faults.data import blobs, digits, drawn, images, rings, sequences
from benchmarks.faults.losses import clipped_binary, cross_entropy, raw_binary, raw_categorical, squared
from benchmarks.faults.models import Exp, deep, filled, he, mlp, small_cnn
from benchmarks.faults.training import Training

BLOWS_UP = ("nonfinite_activation", "nonfinite_loss", "exploding_gradient")
FADES = ("vanishing_gradient", "saturated_units")


@faulty("activations", *BLOWS_UP, at=0, nonfinite=True)
def nine_exponentials() -> Training:
    """AUTOTRAINER, Blob 0b6f114d."""
    model = he(deep(2, 5, 9, 3, Exp, nn.Sigmoid()))
    return Training(model, Adam(model.parameters()), drawn(blobs()), raw_categorical)


@faulty("activations", *BLOWS_UP, at=0, nonfinite=True)
def eleven_exponentials() -> Training:
    """AUTOTRAINER, Circle 0eb8d545."""
    model = he(deep(2, 5, 11, 1, Exp, nn.Sigmoid()))
    return Training(model, Adam(model.parameters()), drawn(rings()), raw_binary)


@faulty("activations", *FADES, at=0, curable=True)
def eleven_sigmoids() -> Training:
    """AUTOTRAINER, Blob 2569b90f."""
    model = he(deep(2, 5, 11, 3, nn.Sigmoid))
    return Training(model, Adam(model.parameters()), drawn(blobs()), cross_entropy)


@faulty("activations", *FADES, at=0)
def fourteen_sigmoids() -> Training:
    """AUTOTRAINER, Circle dd8c879b."""
    model = he(deep(2, 5, 13, 1, nn.Sigmoid, nn.Sigmoid()))
    return Training(model, SGD(model.parameters(), 0.01), drawn(rings()), clipped_binary)


@faulty("activations", *FADES, "nonfinite_activation", at=0)
def sigmoids_and_exponentials() -> Training:
    """AUTOTRAINER, Blob e706e7cd."""
    layers: list[nn.Module] = [nn.Linear(2, 5), nn.Sigmoid()]
    for depth in range(19):
        layers += [nn.Linear(5, 5), nn.Sigmoid() if depth % 5 < 3 else Exp()]
    model = he(nn.Sequential(*layers, nn.Linear(5, 3)))
    return Training(model, Adam(model.parameters()), drawn(blobs()), cross_entropy)


@faulty("activations", *FADES, at=0)
def cnn_of_sigmoids() -> Training:
    """AUTOTRAINER, CIFAR 1d575a45."""
    model = he(small_cnn(nn.Sigmoid, hidden=7))
    return Training(model, Adam(model.parameters()), drawn(images()), cross_entropy)


@faulty("activations", *BLOWS_UP, at=0, nonfinite=True)
def cnn_of_exponentials() -> Training:
    """AUTOTRAINER, CIFAR 4bc5fb07."""
    model = he(small_cnn(Exp, hidden=4))
    return Training(model, Adam(model.parameters()), drawn(images()), cross_entropy)


@faulty("activations", *FADES, "stalled_update", at=0, curable=True)
def three_small_sigmoids() -> Training:
    """Stack Overflow 39217567."""
    inputs = (sequences()[0][:, 0] > 0).float()
    model = filled(mlp([8, 8, 8, 8], nn.Sigmoid, nn.Sigmoid()), lambda w: nn.init.normal_(w, 0, 0.05))
    batches = drawn((inputs, inputs.roll(1, 0)), 50)
    return Training(model, SGD(model.parameters(), 0.01), batches, squared)


@faulty("activations", "dead_units", at=0, place=("2", "3", "4"), curable=True)
def layer_dead_by_its_bias() -> Training:
    model = mlp([64, 64, 64, 10])
    model[2].bias.data.fill_(-20.0)
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)


@faulty("activations", "saturated_units", "vanishing_gradient", at=0, curable=True)
def tanh_saturated_by_its_weights() -> Training:
    model = filled(mlp([64, 64, 64, 64, 10], nn.Tanh), lambda w: nn.init.normal_(w, 0, 4.0))
    return Training(model, SGD(model.parameters(), 1e-3), drawn(digits()), cross_entropy)


@faulty("activations", "dead_units", "vanishing_gradient", "saturated_units", at=0, curable=True)
def thirty_four_narrow_relus() -> Training:
    """AUTOTRAINER's motivating model; its width isn't published."""
    model = he(deep(64, 10, 34, 10, nn.ReLU))
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)
