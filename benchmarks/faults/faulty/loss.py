"""Outputs that the loss can't use."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adam, RMSprop

from benchmarks.faults.case import faulty
from benchmarks.faults.data import digits, drawn, images, rings, table, whole
from benchmarks.faults.losses import (
    binary_logits,
    clipped_binary,
    clipped_categorical,
    cross_entropy,
    raw_binary,
    raw_categorical,
    squared,
)
from benchmarks.faults.models import filled, mlp
from benchmarks.faults.training import Training


@faulty("loss", "single_class_softmax", at=0)
def softmax_over_one_unit() -> Training:
    """Stack Overflow 31880720."""
    half = torch.arange(1000) < 500
    model = mlp([128, 50, 2, 1], last=nn.Softmax(-1))
    batches = drawn((half.float()[:, None].expand(-1, 128), half.long()))
    return Training(model, RMSprop(model.parameters()), batches, clipped_binary)


@faulty("loss", "single_class_softmax", at=0)
def softmax_over_one_unit_squared() -> Training:
    """Stack Overflow 34311586."""
    corners = torch.tensor([[1.0, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0]])
    model = mlp([2, 2, 3, 1], nn.Sigmoid, nn.Softmax(-1))
    pair = corners, torch.tensor([[0.0], [0], [1], [1], [0], [0]])
    return Training(model, SGD(model.parameters(), 1e-3, momentum=0.9), whole(pair), squared)


@faulty("loss", "single_class_softmax", "unnormalised_input", "output_range_mismatch", at=0)
def softmax_over_one_unit_of_raw_measurements() -> Training:
    """Stack Overflow 33969059."""
    inputs = torch.rand(2000, 3) * 1e4
    targets = (inputs @ torch.tensor([2.0, 1.0, 0.5]))[:, None] + 2.2
    layers = [nn.Linear(3, 3), nn.Tanh(), nn.Dropout(0.5), nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)]
    model = nn.Sequential(*layers, nn.Softmax(-1))
    return Training(model, SGD(model.parameters(), 0.1, momentum=0.9), drawn((inputs, targets)), squared)


@faulty("loss", "output_range_mismatch", "dead_units", "unnormalised_input", at=0)
def relu_output_for_negative_targets() -> Training:
    """Stack Overflow 48251943."""
    inputs = torch.rand(200, 2) * 100
    model = mlp([2, 4, 1], last=nn.ReLU())
    batches = drawn((inputs, -inputs.sum(1, keepdim=True)), 10)
    return Training(model, SGD(model.parameters(), 0.01), batches, squared)


@faulty("loss", "output_range_mismatch", at=0)
def sigmoid_output_for_a_line() -> Training:
    """Stack Overflow 48221692."""
    x = torch.linspace(0, 10, 200)[:, None]
    model = mlp([1, 5, 1], nn.Sigmoid, nn.Sigmoid())
    return Training(model, SGD(model.parameters(), 0.01), drawn((x, 3 * x + 2)), squared)


@faulty("loss", "output_range_mismatch", at=0)
def tanh_output_for_percentages() -> Training:
    inputs, targets = table()
    model = mlp([8, 32, 1], last=nn.Tanh())
    return Training(model, Adam(model.parameters()), drawn((inputs, 50 + 20 * targets)), squared)


def _relu_classifier() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    inputs = torch.randn(500, 11) * 5
    model = filled(mlp([11, 12, 12, 1], last=nn.ReLU()), lambda w: nn.init.normal_(w, 0, 0.05))
    return model, (inputs, (inputs[:, 0] > 0).long())


@faulty("loss", "nonfinite_loss", "output_range_mismatch", at=0, nonfinite=True)
def relu_output_as_probability() -> Training:
    """Stack Overflow 44066044."""
    model, pair = _relu_classifier()
    return Training(model, Adam(model.parameters()), drawn(pair, 10), raw_binary)


@faulty("loss", "output_range_mismatch", "dead_units", "vanishing_gradient", at=0)
def relu_output_as_clipped_probability() -> Training:
    model, pair = _relu_classifier()
    return Training(model, Adam(model.parameters()), drawn(pair, 10), clipped_binary)


@faulty("loss", "nonfinite_loss", "output_range_mismatch", nonfinite=True)
def relu_output_as_class_probabilities() -> Training:
    """Stack Overflow 47352366."""
    model = mlp([64, 64, 64, 10], last=nn.ReLU())
    return Training(model, Adam(model.parameters()), drawn(digits()), raw_categorical)


@faulty("loss", "output_range_mismatch", "unnormalised_input", at=0)
def logits_as_probabilities_of_raw_pixels() -> Training:
    """UMLAUT A1 to A3."""
    inputs, labels = images()
    layers = [nn.Flatten(), nn.Linear(432, 96), nn.ReLU(), nn.Dropout(0.8), nn.Linear(96, 10)]
    model = nn.Sequential(*layers)
    return Training(model, Adam(model.parameters()), drawn((inputs * 255, labels)), clipped_categorical)


@faulty("loss", "double_softmax", at=0)
def softmax_into_cross_entropy() -> Training:
    """UMLAUT A3 the other way round."""
    model = mlp([64, 64, 10], last=nn.Softmax(-1))
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)


@faulty("loss", "double_softmax", at=0)
def sigmoid_into_the_loss_of_logits() -> Training:
    model = mlp([2, 32, 1], last=nn.Sigmoid())
    return Training(model, Adam(model.parameters()), drawn(rings()), binary_logits)


@faulty("loss", "output_range_mismatch", at=0)
def logits_into_nll() -> Training:
    model = mlp([64, 64, 10])
    return Training(model, Adam(model.parameters()), drawn(digits()), F.nll_loss)


@faulty("loss", "output_range_mismatch", at=0)
def log_softmax_over_the_batch() -> Training:
    model = mlp([64, 64, 10], last=nn.LogSoftmax(0))
    return Training(model, Adam(model.parameters()), drawn(digits()), F.nll_loss)


@faulty("loss", at=0, steps=200)
def absolute_error_for_xor() -> Training:
    """Stack Overflow 31556268: the absolute error of a coin is flat. The catalog has no kind for it."""
    corners = torch.tensor([[1.0, 1], [1, 0], [0, 0], [0, 1]])
    model = mlp([2, 4, 1], nn.Sigmoid, nn.Sigmoid())
    pair = corners, torch.tensor([[0.0], [1], [0], [1]])
    optimizer = SGD(model.parameters(), 0.05, momentum=0.11, nesterov=True)
    return Training(model, optimizer, whole(pair), F.l1_loss)
