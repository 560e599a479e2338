"""Healthy trainings: nothing goes wrong, so nothing should be done."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from benchmarks.survival import data, networks, scoring
from benchmarks.survival.workload import Workload, adamw, sgd


def controls() -> list[Workload]:
    """All of them."""
    return [*_on_digits(), *_on_taught(), *_on_text()]


def _on_digits() -> Iterator[Workload]:
    def digits(
        name: str, build: object, optimizer: object, lr: float, steps: int = 300, rows: int = 32
    ) -> Workload:
        return Workload(
            name, "control", build, optimizer, lr, data.digit_batches(rows), scoring.cross_entropy,
            scoring.on_digits(scoring.cross_entropy), scoring.DIGITS_GUESS, steps, stable=True,
        )  # type: ignore[arg-type]  # fmt: skip

    yield digits("mlp_sgd", partial(networks.mlp, 64, 48, 48, 10), sgd(), 0.05)
    yield digits("logistic_zero", _zero_logistic, sgd(), 0.05)
    yield digits("cnn_norm_sgd", partial(networks.cnn, 12, 3, norm=True), sgd(weight_decay=5e-4), 0.05, 250)
    yield digits(
        "cnn_norm_10", partial(networks.cnn, 8, 10, norm=True), sgd(weight_decay=5e-4), 0.05, 200, 16
    )
    yield digits("cnn_plain_hot", partial(networks.cnn, 12, 3), sgd(), 0.05, 300)
    yield digits("resnet_100", partial(networks.cnn, 4, 99, norm=True, residual=True), sgd(), 0.01, 80)
    yield digits("resnet_norm", partial(networks.cnn, 8, 17, norm=True, residual=True), sgd(), 0.03, 150)
    yield digits("frozen_backbone", _frozen, sgd(), 0.1)
    yield digits(
        "rmsprop",
        partial(networks.mlp, 64, 48, 10),
        lambda m, lr: torch.optim.RMSprop(m.parameters(), lr),
        1e-3,
    )
    yield Workload(
        "autoencoder", "control", partial(networks.mlp, 64, 32, 8, 32, 64, activation=nn.Tanh), adamw(), 3e-3,
        data.digit_batches(32), scoring.reconstruction, scoring.on_digits(scoring.reconstruction), 0.9, 300, stable=True,
    )  # fmt: skip


def _on_taught() -> Iterator[Workload]:
    for name, optimizer, lr in (("taught_adamw", adamw(0.01), 2e-3), ("taught_sgd", sgd(), 0.02)):
        yield Workload(
            name, "control", partial(networks.mlp, 20, 64, 64, 10), optimizer, lr, data.taught_batches(32),
            scoring.squared, scoring.on_taught(), scoring.taught_guess(), 600, stable=True,
        )  # fmt: skip


def _on_text() -> Iterator[Workload]:
    for name, build, optimizer, lr in (
        ("lstm_adam", partial(networks.LetterNet, "lstm", 48), adamw(), 3e-3),
        ("gru_adam", partial(networks.LetterNet, "gru", 48), adamw(), 3e-3),
        ("transformer_warm", partial(networks.Transformer, pre_norm=True), adamw(0.1), 1e-3),
    ):
        yield Workload(
            name, "control", build, optimizer, lr, data.text_batches(32, 12), scoring.cross_entropy,
            scoring.on_text(32), data.unigram_entropy(), 200, stable=True,
            lr_at=(lambda step: min(1.0, (step + 1) / 40)) if name == "transformer_warm" else (lambda step: 1.0),  # noqa: ARG005
        )  # type: ignore[arg-type]  # fmt: skip


def _zero_logistic() -> nn.Module:
    linear = nn.Linear(64, 10)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _frozen() -> nn.Module:
    """A random convolution that stays as it is, and a head that learns."""
    model = networks.cnn(16, 3, norm=True)
    assert isinstance(model, nn.Sequential)
    for param in model[:-1].parameters():
        param.requires_grad_(requires_grad=False)
    return model
