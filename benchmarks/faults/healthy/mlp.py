"""Dense networks: optimizers, losses, scales of the loss, depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import LBFGS, SGD, Adagrad, Adam, AdamW, NAdam, RMSprop

from benchmarks.faults.case import healthy
from benchmarks.faults.data import blobs, digits, drawn, one_hot, rings, table, whole
from benchmarks.faults.losses import binary_logits, cross_entropy, squared
from benchmarks.faults.models import deep, he, mlp, residual_net
from benchmarks.faults.training import Training

FAMILY = "healthy mlp"


@healthy(FAMILY)
def tanh_by_adam() -> Training:
    model = he(mlp([2, 5, 5, 5, 5, 5, 3], nn.Tanh))
    return Training(model, Adam(model.parameters(), 5e-3), drawn(blobs()), cross_entropy)


@healthy(FAMILY)
def relu_by_adam() -> Training:
    model = he(mlp([64, 64, 64, 64, 10]))
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def relu_by_sgd() -> Training:
    model = mlp([64, 64, 64, 10])
    return Training(model, SGD(model.parameters(), 0.1), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def relu_by_nesterov() -> Training:
    model = mlp([64, 64, 10])
    optimizer = SGD(model.parameters(), 0.02, momentum=0.9, nesterov=True)
    return Training(model, optimizer, drawn(digits()), cross_entropy)


@healthy(FAMILY)
def regression_by_rmsprop() -> Training:
    model = mlp([8, 32, 32, 1])
    return Training(model, RMSprop(model.parameters(), 1e-3), drawn(table()), squared)


@healthy(FAMILY)
def classes_by_adagrad() -> Training:
    model = mlp([64, 64, 10])
    return Training(model, Adagrad(model.parameters(), 0.02), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def gelu_by_nadam() -> Training:
    model = mlp([64, 64, 64, 10], nn.GELU)
    return Training(model, NAdam(model.parameters(), 1e-3), drawn(digits()), cross_entropy)


def _by_closure(training: Training, step: int) -> Tensor:
    def closure() -> Tensor:
        training.optimizers[0].zero_grad()
        loss = training.forward(step)
        loss.backward()
        return loss

    return training.optimizers[0].step(closure).detach()  # type: ignore[union-attr]


@healthy(FAMILY, steps=30)
def regression_by_lbfgs() -> Training:
    model = mlp([8, 16, 1], nn.Tanh)
    optimizer = LBFGS(model.parameters(), lr=0.5, max_iter=5)
    pair = table()
    return Training(model, optimizer, whole(pair), squared, loop=_by_closure)


@healthy(FAMILY)
def summed_loss_with_its_rate() -> Training:
    model = mlp([8, 32, 32, 1])
    optimizer = SGD(model.parameters(), 2e-4)
    return Training(model, optimizer, drawn(table(), 128), lambda out, y: F.mse_loss(out, y, reduction="sum"))


@healthy(FAMILY)
def very_large_loss() -> Training:
    model = mlp([64, 64, 10])
    return Training(
        model, Adam(model.parameters()), drawn(digits()), lambda out, y: 1e6 * cross_entropy(out, y)
    )


@healthy(FAMILY)
def very_small_loss() -> Training:
    model = mlp([8, 32, 32, 1])
    optimizer = Adam(model.parameters(), eps=1e-12)
    return Training(model, optimizer, drawn(table()), lambda out, y: 1e-5 * squared(out, y))


@healthy(FAMILY, steps=400)
def trained_until_nothing_is_left() -> Training:
    model = mlp([2, 32, 32, 3])
    return Training(model, Adam(model.parameters(), 1e-2), drawn(blobs(60), 60), cross_entropy)


@healthy(FAMILY)
def strong_weight_decay() -> Training:
    model = mlp([64, 64, 64, 10])
    return Training(model, AdamW(model.parameters(), 2e-3, weight_decay=0.5), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def dropout() -> Training:
    layers = [nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.5), nn.Linear(96, 96), nn.ReLU(), nn.Dropout(0.5)]
    model = nn.Sequential(*layers, nn.Linear(96, 10))
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def normalised_residual_net() -> Training:
    model = residual_net(16, normalised=True)
    return Training(model, AdamW(model.parameters(), 1e-3), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def twenty_wide_relu_layers() -> Training:
    """AUTOTRAINER's oscillating 20 layers: at this scale the gradient spikes and the net learns all the same."""
    model = he(deep(64, 64, 20, 10, nn.ReLU))
    return Training(model, Adam(model.parameters(), 3e-4), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def autoencoder_of_probabilities() -> Training:
    model = mlp([64, 32, 8, 32, 64], last=nn.Sigmoid())
    inputs = digits()[0]
    return Training(model, Adam(model.parameters(), 3e-3), drawn((inputs, inputs)), F.binary_cross_entropy)


@healthy(FAMILY)
def binary_logits_of_rings() -> Training:
    model = mlp([2, 32, 32, 1])
    return Training(model, Adam(model.parameters(), 3e-3), drawn(rings()), binary_logits)


@healthy(FAMILY)
def many_labels_at_once() -> Training:
    model = mlp([64, 64, 10])
    batches = drawn(one_hot(digits()))
    return Training(model, Adam(model.parameters()), batches, F.binary_cross_entropy_with_logits)


@healthy(FAMILY)
def log_softmax_into_nll() -> Training:
    model = mlp([64, 64, 10], last=nn.LogSoftmax(-1))
    return Training(model, Adam(model.parameters()), drawn(digits()), F.nll_loss)


@healthy(FAMILY)
def sigmoid_regression_in_range() -> Training:
    inputs, targets = table()
    model = mlp([8, 32, 1], last=nn.Sigmoid())
    optimizer = SGD(model.parameters(), 0.5)
    return Training(model, optimizer, drawn((inputs, targets.sigmoid())), squared)


@healthy(FAMILY)
def softplus_counts() -> Training:
    inputs, targets = table()
    counts = (2 * targets.exp()).round()
    model = mlp([8, 32, 1], last=nn.Softplus())
    return Training(
        model,
        Adam(model.parameters(), 3e-3),
        drawn((inputs, counts)),
        lambda out, y: F.poisson_nll_loss(out, y, log_input=False),
    )


class _Variational(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.mean, self.spread = nn.Linear(64, 48), nn.Linear(48, 6), nn.Linear(48, 6)
        self.decoder = mlp([6, 48, 64])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = torch.relu(self.encoder(x))
        mean, spread = self.mean(hidden), self.spread(hidden)
        return self.decoder(mean + torch.exp(spread / 2) * torch.randn_like(mean)), mean, spread


@healthy(FAMILY)
def variational_autoencoder() -> Training:
    def loss(out: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
        picture, mean, spread = out
        apart = -0.5 * (1 + spread - mean**2 - spread.exp()).sum(-1).mean()
        return F.binary_cross_entropy_with_logits(picture, y, reduction="none").sum(-1).mean() + apart

    model, inputs = _Variational(), digits()[0]
    return Training(model, Adam(model.parameters(), 2e-3), drawn((inputs, inputs)), loss)
