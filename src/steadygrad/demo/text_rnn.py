"""A character RNN on the English text of Python's own manual.

Shape legend: N sequences, T letters of each, V letters of the alphabet.
"""

from __future__ import annotations

from collections.abc import Iterator
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

from steadygrad.demo.workload import Batch, Workload, generator

SEQUENCES = 32
LETTERS = 64
EMBEDDING = 32
HIDDEN = 128
LEARNING_RATE = 1e-3
HELD_OUT_SHARE = 0.1
HELD_OUT_SEQUENCES = 128


class NextLetter(nn.Module):
    """Embedding, one recurrent layer with ReLU, and a score for each letter that may come next."""

    def __init__(self, alphabet: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(alphabet, EMBEDDING)
        self.rnn = nn.RNN(EMBEDDING, HIDDEN, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(HIDDEN, alphabet)

    def forward(self, letters: Tensor) -> Tensor:
        """Scores ``[N, T, V]`` for letters ``[N, T]``."""
        states, _ = self.rnn(self.embedding(letters))
        scores: Tensor = self.head(states)
        return scores


class TextRNN(Workload):
    """Predict the next letter; the loss is summed over all letters, as many tutorials write it.

    The gradient is then 2,048 times that of the mean, and so is what a clip of 1.0 means.

    Args:
        quick: train for a few steps only.
    """

    key = "text"
    title = "character RNN, the manual of Python"
    setting = (
        f"nn.RNN with ReLU ({HIDDEN} units), PyTorch's own initialisation, SGD at {LEARNING_RATE:g}; the loss is "
        f"summed over {SEQUENCES} x {LETTERS} letters, as many tutorials write it."
    )
    unit = "nats a letter"

    def __init__(self, *, quick: bool = False) -> None:
        self.steps = 60 if quick else 600
        text = "\n".join(topics[name] for name in sorted(topics))
        alphabet = sorted(set(text))
        code = {letter: i for i, letter in enumerate(alphabet)}
        self._alphabet = len(alphabet)
        encoded = torch.tensor([code[letter] for letter in text])
        cut = int(len(encoded) * (1 - HELD_OUT_SHARE))
        self._training, held_out = encoded[:cut], encoded[cut:]
        self._held_out = _sequences(held_out, HELD_OUT_SEQUENCES, generator(0))
        self.guess = _loss_of_frequencies(self._training, held_out, self._alphabet)

    def build_model(self) -> nn.Module:
        """The network with PyTorch's default initialisation."""
        return NextLetter(self._alphabet)

    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """Plain gradient descent at the rate most people try first."""
        return SGD(model.parameters(), lr=LEARNING_RATE)

    def batches(self, seed: int) -> Iterator[Batch]:
        """Sequences from random places of the text, ``[N, T]``, and the same one letter later."""
        order = generator(seed)
        for _ in range(self.steps):
            yield _sequences(self._training, SEQUENCES, order)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy summed over sequences and letters."""
        letters, following = batch
        return cross_entropy(model(letters).flatten(0, 1), following.flatten(), reduction="sum")

    def held_out_loss(self, model: nn.Module) -> float:
        """Mean cross-entropy of a letter in the last tenth of the text."""
        letters, following = self._held_out
        return float(cross_entropy(model(letters).flatten(0, 1), following.flatten()))


def _sequences(text: Tensor, count: int, order: torch.Generator) -> Batch:
    starts = torch.randint(len(text) - LETTERS, (count, 1), generator=order)
    places = starts + torch.arange(LETTERS)
    return text[places], text[places + 1]


def _loss_of_frequencies(training: Tensor, held_out: Tensor, alphabet: int) -> float:
    """Loss of predicting each letter by how often it occurs, one added to every count."""
    counts = torch.bincount(training, minlength=alphabet) + 1.0
    return -float((counts / counts.sum()).log()[held_out].mean())
