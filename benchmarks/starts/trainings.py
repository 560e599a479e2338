"""Recurrent trainings that aren't in `benchmarks.survival`: the sum of two marked numbers, by identity recurrences.

Shape legend: N rows, T time steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.survival import data, networks, scoring
from benchmarks.survival.workload import Batch, Workload, adamw, sgd

_ROWS = 32


class Wide(nn.Module):
    """A wider one than `benchmarks.survival` has; its inputs start weaker, and its biases not at zero."""

    def __init__(self, hidden: int = 48) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, hidden, nonlinearity="relu", batch_first=True)
        nn.init.eye_(self.rnn.weight_hh_l0)
        nn.init.normal_(self.rnn.weight_ih_l0, std=1 / math.sqrt(4 * hidden))
        self.head = nn.Linear(hidden, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """One number a sequence ``[N, 1]`` of ``[N, T, 2]``."""
        out: Tensor = self.head(self.rnn(sequence)[0][:, -1])
        return out


def trainings() -> list[Workload]:
    """All of them."""
    louder = partial(networks.IdentityRnn, 40)
    return [
        _sum("sum_20_adam_wide", Wide, adamw(), 3e-3, 20, 800),
        _sum("sum_20_adam", louder, adamw(), 3e-3, 20, 700),
        _sum("sum_16_momentum", louder, sgd(), 0.02, 16, 700),
        _sum("sum_12_momentum", louder, sgd(), 0.02, 12, 700),
    ]


def _sum(
    name: str,
    build: Callable[[], nn.Module],
    optimizer: Callable[[nn.Module, float], Optimizer],
    lr: float,
    length: int,
    steps: int,
) -> Workload:
    held = scoring.on(data.adding(length, 512, data.gen(scoring.HELD_OUT_SEED)), scoring.squared)
    batches = partial(_batches, length)
    return Workload(name, "sum", build, optimizer, lr, batches, scoring.squared, held, 1 / 6, steps)


def _batches(length: int, generator: torch.Generator) -> Iterator[Batch]:
    while True:
        yield data.adding(length, _ROWS, generator)
