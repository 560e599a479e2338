"""Small data sets, made from formulas.

Shape legend: N rows, D features, C classes, T time steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

Pair = tuple[Tensor, Tensor]


def drawn(pair: Pair, size: int = 32, seed: int = 0) -> Callable[[int], Pair]:
    """Batches drawn at random, the same for the same step."""
    inputs, targets = pair

    def batch(step: int) -> Pair:
        generator = torch.Generator().manual_seed(seed * 100_003 + step)
        rows = torch.randint(0, len(inputs), (size,), generator=generator)
        return inputs[rows], targets[rows]

    return batch


def whole(pair: Pair) -> Callable[[int], Pair]:
    """Everything in every step."""

    def batch(_: int) -> Pair:
        return pair

    return batch


def spoiled(
    batches: Callable[[int], Pair], at: int, spoil: Callable[[Tensor, Tensor], Pair]
) -> Callable[[int], Pair]:
    """The same batches, but for the one of step ``at``."""

    def batch(step: int) -> Pair:
        inputs, targets = batches(step)
        return spoil(inputs.clone(), targets.clone()) if step == at else (inputs, targets)

    return batch


@functools.cache
def blobs(count: int = 900) -> Pair:
    """Three Gaussian clusters in the plane, ``[N, 2]``."""
    noise = _generator(0)
    centers = torch.tensor([[-2.0, -1.3], [0.0, 2.0], [2.0, -1.0]])
    labels = torch.arange(count) % 3
    return centers[labels] + 0.5 * torch.randn(count, 2, generator=noise), labels


@functools.cache
def rings(count: int = 900) -> Pair:
    """Two rings, ``[N, 2]``."""
    noise = _generator(1)
    labels = torch.arange(count) % 2
    angle = torch.rand(count, generator=noise) * 2 * math.pi
    radius = torch.where(labels == 0, 1.0, 0.5)
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return points + 0.05 * torch.randn(count, 2, generator=noise), labels


@functools.cache
def digits(count: int = 1500, features: int = 64, classes: int = 10) -> Pair:
    """Noisy prototypes in [0, 1], ``[N, D]``."""
    noise = _generator(2)
    prototypes = torch.rand(classes, features, generator=noise)
    labels = torch.arange(count) % classes
    return (prototypes[labels] + 0.25 * torch.randn(count, features, generator=noise)).clamp(0, 1), labels


@functools.cache
def images(count: int = 512, side: int = 12, channels: int = 3, classes: int = 10) -> Pair:
    """Noisy prototypes in [0, 1], ``[N, channels, side, side]``."""
    noise = _generator(3)
    prototypes = torch.rand(classes, channels, side, side, generator=noise)
    labels = torch.arange(count) % classes
    pictures = prototypes[labels] + 0.25 * torch.randn(count, channels, side, side, generator=noise)
    return pictures.clamp(0, 1), labels


@functools.cache
def table(count: int = 800, features: int = 8) -> Pair:
    """A smooth function of standardised features plus noise, ``[N, D]`` and ``[N, 1]``."""
    noise = _generator(4)
    inputs = torch.randn(count, features, generator=noise)
    signal = torch.sin(inputs[:, 0]) + 0.5 * inputs[:, 1] * inputs[:, 2] - 0.3 * inputs[:, 3]
    return inputs, (signal + 0.1 * torch.randn(count, generator=noise))[:, None]


@functools.cache
def adding(steps: int = 100, count: int = 256) -> Pair:
    """The adding problem (Hochreiter and Schmidhuber 1997): sum of two marked numbers, ``[N, T, 2]``."""
    noise = _generator(5)
    inputs = torch.rand(count, steps, 2, generator=noise)
    inputs[..., 1] = 0.0
    rows = torch.arange(count)
    for low, high in ((0, steps // 2), (steps // 2, steps)):
        inputs[rows, torch.randint(low, high, (count,), generator=noise), 1] = 1.0
    return inputs, (inputs[..., 0] * inputs[..., 1]).sum(1, keepdim=True)


@functools.cache
def text(length: int = 24, count: int = 600, letters: int = 20) -> Pair:
    """Letters of a sparse Markov chain and the letters that follow, ``[N, T]`` each."""
    noise = _generator(6)
    chances = torch.rand(letters, letters, generator=noise) ** 6
    state = torch.randint(0, letters, (count,), generator=noise)
    columns = [state]
    for _ in range(length):
        state = torch.multinomial(chances[state], 1, generator=noise)[:, 0]
        columns.append(state)
    everything = torch.stack(columns, 1)
    return everything[:, :-1], everything[:, 1:]


@functools.cache
def sequences(length: int = 16, count: int = 512, features: int = 8) -> Pair:
    """Which of four features had the largest mean, ``[N, T, D]``."""
    noise = _generator(7)
    labels = torch.arange(count) % 4
    inputs = torch.randn(count, length, features, generator=noise)
    inputs[torch.arange(count), :, labels] += 0.7
    return inputs, labels


def one_hot(pair: Pair, classes: int = 10) -> Pair:
    """Labels as rows of 0 and 1."""
    return pair[0], F.one_hot(pair[1], classes).float()


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
