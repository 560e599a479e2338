"""Data: handwritten digits, the text of Python's manual, and tasks that are made up.

Shape legend: N rows, T time steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pydoc_data.topics import topics
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.survival.workload import Batch

LETTERS = 48
_TRAINING_ROWS, _TRAINING_LETTERS, _ALL_LETTERS = 1400, 360_000, 400_000
# Applied to a batch: what a broken pipeline does to it.
Damage = Callable[[Tensor, Tensor, torch.Generator], Batch]


class Split(NamedTuple):
    """Rows to train on and rows to judge with."""

    inputs: Tensor
    targets: Tensor
    held_inputs: Tensor
    held_targets: Tensor


def gen(seed: int) -> torch.Generator:
    """A generator of its own, so that nothing else moves it."""
    return torch.Generator().manual_seed(seed)


@cache
def digits() -> Split:
    """8 x 8 images ``[N, 64]`` of unit spread and their digits."""
    bunch = load_digits()
    images = torch.tensor(bunch.data, dtype=torch.float32)
    images = (images - images.mean()) / images.std()
    labels = torch.tensor(bunch.target)
    order = torch.randperm(len(images), generator=gen(5))
    images, labels = images[order], labels[order]
    n = _TRAINING_ROWS
    return Split(images[:n], labels[:n], images[n:], labels[n:])


@cache
def _text() -> Tensor:
    text = "\n".join(topics[name] for name in sorted(topics))
    known = {letter: i + 1 for i, (letter, _) in enumerate(Counter(text).most_common(LETTERS - 1))}
    return torch.tensor([known.get(letter, 0) for letter in text[:_ALL_LETTERS]])


def text_batch(length: int, rows: int, generator: torch.Generator, *, held_out: bool = False) -> Batch:
    """Letters ``[N, T]`` and the letters that follow them."""
    low, high = (_TRAINING_LETTERS, _ALL_LETTERS) if held_out else (0, _TRAINING_LETTERS)
    starts = torch.randint(low, high - length - 1, (rows,), generator=generator)
    found = _text()[starts[:, None] + torch.arange(length + 1)]
    return found[:, :-1], found[:, 1:]


@cache
def unigram_entropy() -> float:
    """Loss of always predicting the frequencies of the letters."""
    share = torch.bincount(_text()[_TRAINING_LETTERS:], minlength=LETTERS).double()
    share = (share / share.sum()).clamp_min(1e-12)
    return float(-(share * share.log()).sum())


@cache
def _teacher() -> tuple[Tensor, Tensor]:
    generator = gen(99)
    return torch.randn(20, 32, generator=generator) / 4, torch.randn(32, 10, generator=generator)


def taught(rows: int, generator: torch.Generator) -> Batch:
    """Normal inputs ``[N, 20]`` and what a fixed small network makes of them, ``[N, 10]``."""
    inputs = torch.randn(rows, 20, generator=generator)
    first, second = _teacher()
    return inputs, torch.tanh(inputs @ first) @ second


def adding(length: int, rows: int, generator: torch.Generator) -> Batch:
    """Sequences ``[N, T, 2]`` of numbers, two of them marked, and the sum of those."""
    values = torch.rand(rows, length, generator=generator)
    marks = torch.zeros(rows, length)
    each = torch.arange(rows)
    marks[each, torch.randint(0, length // 2, (rows,), generator=generator)] = 1.0
    marks[each, torch.randint(length // 2, length, (rows,), generator=generator)] = 1.0
    return torch.stack([values, marks], -1), (values * marks).sum(1, keepdim=True)


def digit_batches(rows: int, damage: Damage | None = None) -> Callable[[torch.Generator], Iterator[Batch]]:
    """Endless batches of digits."""

    def stream(generator: torch.Generator) -> Iterator[Batch]:
        split = digits()
        while True:
            chosen = torch.randint(0, len(split.inputs), (rows,), generator=generator)
            batch = split.inputs[chosen], split.targets[chosen]
            yield damage(*batch, generator) if damage else batch

    return stream


def taught_batches(rows: int, damage: Damage | None = None) -> Callable[[torch.Generator], Iterator[Batch]]:
    """Endless batches of the teacher's."""

    def stream(generator: torch.Generator) -> Iterator[Batch]:
        while True:
            batch = taught(rows, generator)
            yield damage(*batch, generator) if damage else batch

    return stream


def text_batches(length: int, rows: int) -> Callable[[torch.Generator], Iterator[Batch]]:
    """Endless batches of text."""

    def stream(generator: torch.Generator) -> Iterator[Batch]:
        while True:
            yield text_batch(length, rows, generator)

    return stream
