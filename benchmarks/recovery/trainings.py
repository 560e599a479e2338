"""Small real trainings that go well by themselves; the rate falls to almost nothing, so their ends are quiet.

Shape legend: N rows, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from benchmarks.survival import data, networks, scoring
from benchmarks.survival.workload import Batch

STEPS = 600
_TABLE_ROWS = 330


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: unique.
        tuning: whether constants of recovery may be chosen on it; else it only judges.
        build: makes the model; torch is seeded before the call.
        optimizer: makes the optimizer.
        batches: endless batches from a generator.
        loss: of a model on a batch.
        held_out: loss on data it has never seen.
    """

    name: str
    tuning: bool
    build: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer]
    batches: Callable[[torch.Generator], Iterator[Batch]]
    loss: Callable[[nn.Module, Batch], Tensor]
    held_out: Callable[[nn.Module], float]


def trainings() -> dict[str, Training]:
    """All by name."""
    return {one.name: one for one in (*_digits(), *_text(), *_table())}


def rate_at(step: int) -> float:
    """Factor on the rate: ten steps up, then a cosine down to 1 %."""
    return min(1.0, (step + 1) / 10) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / STEPS)))


def _sgd(lr: float, decay: float = 5e-4) -> Callable[[nn.Module], Optimizer]:
    return lambda model: SGD(model.parameters(), lr, momentum=0.9, weight_decay=decay)


def _adam(lr: float) -> Callable[[nn.Module], Optimizer]:
    return lambda model: Adam(model.parameters(), lr)


def _adamw(lr: float) -> Callable[[nn.Module], Optimizer]:
    return lambda model: AdamW(model.parameters(), lr, weight_decay=0.05)


def _digits() -> Iterator[Training]:
    mlp, cnn = partial(networks.mlp, 64, 48, 10), partial(networks.cnn, 8, 3, norm=True)
    for name, tuning, build, optimizer in (
        ("digits_mlp_adam", True, mlp, _adam(3e-3)),
        ("digits_mlp_sgd", True, mlp, _sgd(0.05)),
        ("digits_cnn_sgd", True, cnn, _sgd(0.05)),
        ("digits_cnn_adamw", False, cnn, _adamw(5e-3)),
    ):
        yield Training(
            name, tuning, build, optimizer, data.digit_batches(32), scoring.cross_entropy,
            scoring.on_digits(scoring.cross_entropy),
        )  # fmt: skip


def _text() -> Iterator[Training]:
    gru, transformer = (
        partial(networks.LetterNet, "gru", 32),
        partial(networks.Transformer, 2, 32, 16, pre_norm=True),
    )
    for name, tuning, build, optimizer in (
        ("text_gru_adam", True, gru, _adam(1e-2)),
        ("text_gru_sgd", False, gru, _sgd(1.0, 0.0)),
        ("text_transformer_adamw", False, transformer, _adamw(3e-3)),
    ):
        yield Training(
            name, tuning, build, optimizer, data.text_batches(16, 8), scoring.cross_entropy, scoring.on_text(16)
        )  # fmt: skip


def _table() -> Iterator[Training]:
    mlp = partial(networks.mlp, 10, 24, 24, 1, activation=nn.Tanh)
    for name, tuning, build, optimizer in (
        ("table_mlp_sgd", True, mlp, _sgd(0.02, 1e-2)),
        ("table_norm_sgd", False, _table_norm, _sgd(0.02, 1e-2)),
        ("table_norm_adam", False, _table_norm, _adam(3e-3)),
    ):
        yield Training(name, tuning, build, optimizer, _rows, scoring.squared, _held_rows)


def _table_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(10, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 24), nn.BatchNorm1d(24), nn.ReLU(),
        nn.Linear(24, 1),
    )  # fmt: skip


@cache
def _diabetes() -> tuple[Tensor, Tensor]:
    """Features ``[N, D]`` and how far the disease went a year later ``[N, 1]``, of unit spread."""
    inputs, targets = (torch.tensor(one, dtype=torch.float32) for one in load_diabetes(return_X_y=True))
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    order = torch.randperm(len(inputs), generator=data.gen(3))
    return inputs[order], ((targets - targets.mean()) / targets.std())[order, None]


def _rows(generator: torch.Generator) -> Iterator[Batch]:
    inputs, targets = _diabetes()
    while True:
        chosen = torch.randint(0, _TABLE_ROWS, (32,), generator=generator)
        yield inputs[chosen], targets[chosen]


def _held_rows(model: nn.Module) -> float:
    inputs, targets = _diabetes()
    return scoring.on((inputs[_TABLE_ROWS:], targets[_TABLE_ROWS:]), scoring.squared)(model)
