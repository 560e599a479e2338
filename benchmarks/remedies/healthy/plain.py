"""Healthy trainings of plain networks: losses, inputs and targets of many kinds.

Shape legend: N rows, T time steps, D features, C classes or channels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from benchmarks.remedies.data import blobs, curve, prototypes, rings
from benchmarks.remedies.healthy.zoo import adam, healthy, mlp, sgd
from benchmarks.remedies.training import Training


@healthy
def mlp_relu_adam():
    model = mlp(64, 64, 64, 10)
    return Training(model, *prototypes(), functional.cross_entropy, adam(model))


@healthy
def mlp_tanh_sgd():
    model = mlp(2, 32, 32, 2, act=nn.Tanh)
    return Training(model, *rings(), functional.cross_entropy, sgd(model, 0.1))


@healthy
def mlp_blobs_small_batch():
    model = mlp(2, 16, 3)
    return Training(model, *blobs(), functional.cross_entropy, adam(model, 1e-2), rows=8)


@healthy
def mlp_gelu_dropout_adamw():
    model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Dropout(0.3), nn.Linear(128, 10))
    return Training(
        model, *prototypes(), functional.cross_entropy, torch.optim.AdamW(model.parameters(), 1e-3)
    )


@healthy
def mlp_without_optimizer():
    model = mlp(64, 64, 10)
    return Training(model, *prototypes(), functional.cross_entropy)


@healthy
def logistic_regression():
    model = nn.Linear(64, 10)
    return Training(model, *prototypes(), functional.cross_entropy, sgd(model, 0.5))


@healthy
def binary_with_logits():
    model = mlp(2, 32, 1)
    inputs, labels = rings()
    return Training(
        model,
        inputs,
        labels,
        lambda out, y: functional.binary_cross_entropy_with_logits(out[:, 0], y.float()),
        adam(model),
    )


@healthy
def binary_sigmoid_bce():
    model = mlp(2, 32, 1, last=nn.Sigmoid())
    inputs, labels = rings()
    return Training(
        model,
        inputs,
        labels,
        lambda out, y: functional.binary_cross_entropy(out[:, 0], y.float()),
        adam(model),
    )


@healthy
def log_softmax_nll():
    model = mlp(64, 64, 10, last=nn.LogSoftmax(1))
    return Training(model, *prototypes(), functional.nll_loss, adam(model))


@healthy
def softmax_then_log_in_loss():
    model = mlp(64, 64, 10, last=nn.Softmax(1))
    return Training(
        model, *prototypes(), lambda out, y: functional.nll_loss(out.clamp_min(1e-9).log(), y), adam(model)
    )


@healthy
def multi_label():
    model = mlp(64, 64, 5)
    inputs, labels = prototypes()
    targets = torch.stack([labels % k == 0 for k in (2, 3, 4, 5, 7)], 1).float()
    return Training(model, inputs, targets, functional.binary_cross_entropy_with_logits, adam(model))


@healthy
def label_smoothing_weights():
    model = mlp(64, 64, 10)
    loss = nn.CrossEntropyLoss(weight=torch.linspace(0.5, 2, 10), label_smoothing=0.1)
    return Training(model, *prototypes(), loss, adam(model))


@healthy
def regression_mse():
    model = mlp(8, 64, 64, 1)
    return Training(model, *curve(), functional.mse_loss, adam(model))


@healthy
def regression_huber_sgd_momentum():
    model = mlp(8, 64, 1, act=nn.Tanh)
    return Training(model, *curve(), functional.huber_loss, sgd(model, 0.02, momentum=0.9))


@healthy
def regression_offset_targets():
    model = mlp(8, 64, 1)
    inputs, targets = curve()
    return Training(model, inputs, 5 * targets + 20, functional.mse_loss, adam(model, 3e-3))


@healthy
def regression_positive_softplus():
    model = mlp(8, 64, 1, last=nn.Softplus())
    inputs, targets = curve()
    return Training(model, inputs, targets.abs(), functional.mse_loss, adam(model))


@healthy
def regression_l1_rmsprop():
    model = mlp(8, 64, 1)
    return Training(model, *curve(), functional.l1_loss, torch.optim.RMSprop(model.parameters(), 1e-3))


@healthy
def raw_features_with_batchnorm_first():
    model = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    inputs, labels = prototypes()
    return Training(model, inputs * 255, labels, functional.cross_entropy, adam(model))


class ScalesItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp(64, 64, 10)

    def forward(self, pixels):
        return self.body(pixels / 255 - 0.5)


@healthy
def pixels_scaled_in_the_model():
    model = ScalesItself()
    inputs, labels = prototypes()
    return Training(model, inputs * 255, labels, functional.cross_entropy, adam(model))
