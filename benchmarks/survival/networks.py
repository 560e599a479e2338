"""Small networks in which something can go wrong.

Shape legend: N rows, T time steps, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.survival.data import LETTERS


def mlp(
    *sizes: int, activation: Callable[[], nn.Module] = nn.ReLU, gain: float | None = None
) -> nn.Sequential:
    """Linear layers; with ``gain`` normal weights of that gain over the root of fan_in, else torch's own."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        if gain is not None:
            nn.init.normal_(linear.weight, std=gain / math.sqrt(fan_in))
            nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


class Residual(nn.Module):
    """``x + body(x)``, divided by nothing."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape."""
        out: Tensor = features + self.body(features)
        return out


def residual_mlp(blocks: int, width: int, gain: float, outputs: int = 10) -> nn.Sequential:
    """Residual blocks of two layers without normalisation."""

    def layer(fan_in: int, fan_out: int, by: float) -> nn.Linear:
        linear = nn.Linear(fan_in, fan_out)
        nn.init.normal_(linear.weight, std=by / math.sqrt(fan_in))
        nn.init.zeros_(linear.bias)
        return linear

    def block() -> Residual:
        return Residual(
            nn.Sequential(nn.ReLU(), layer(width, width, gain), nn.ReLU(), layer(width, width, gain))
        )

    return nn.Sequential(
        layer(20, width, gain), *(block() for _ in range(blocks)), layer(width, outputs, 1.0)
    )


def cnn(
    channels: int, depth: int, *, gain: float = 1.0, norm: bool = False, residual: bool = False
) -> nn.Module:
    """Convolutions over digits, He's initialisation times ``gain``."""

    def conv(fan_in: int, stride: int = 1) -> list[nn.Module]:
        one = nn.Conv2d(fan_in, channels, 3, stride, 1, bias=not norm)
        nn.init.normal_(one.weight, std=gain * math.sqrt(2 / (9 * fan_in)))
        if one.bias is not None:
            nn.init.zeros_(one.bias)
        return [one, nn.BatchNorm2d(channels), nn.ReLU()] if norm else [one, nn.ReLU()]

    body: list[nn.Module] = []
    for _ in range((depth - 1) // 2 if residual else depth - 1):
        body += [Residual(nn.Sequential(*conv(channels), *conv(channels)))] if residual else conv(channels)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), *conv(1, 2), *body, nn.Flatten(), nn.Linear(channels * 16, 10)
    )


class LetterNet(nn.Module):
    """Embedding, a recurrent layer, a score for each letter."""

    def __init__(self, kind: str, hidden: int, gain: float | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(LETTERS, 24)
        rnn = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind]
        self.rnn: nn.RNNBase = rnn(24, hidden, batch_first=True)
        self.head = nn.Linear(hidden, LETTERS)
        if gain is not None:
            nn.init.orthogonal_(self.rnn.weight_hh_l0, gain)

    def forward(self, letters: Tensor) -> Tensor:
        """Scores ``[N, T, letters]``."""
        scores: Tensor = self.head(self.rnn(self.embedding(letters))[0])
        return scores


class IdentityRnn(nn.Module):
    """A ReLU recurrence that starts as the identity (Le et al. 2015)."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, hidden, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(hidden, 1)
        nn.init.eye_(self.rnn.weight_hh_l0)
        nn.init.normal_(self.rnn.weight_ih_l0, std=0.1)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        nn.init.zeros_(self.rnn.bias_ih_l0)

    def forward(self, sequence: Tensor) -> Tensor:
        """One number a sequence ``[N, 1]``."""
        out: Tensor = self.head(self.rnn(sequence)[0][:, -1])
        return out


class Transformer(nn.Module):
    """A causal transformer over letters."""

    def __init__(self, layers: int = 4, width: int = 32, length: int = 32, *, pre_norm: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(LETTERS, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=pre_norm
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, LETTERS)
        self.mask: Tensor
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, letters: Tensor) -> Tensor:
        """Scores ``[N, T, letters]``."""
        features = self.embedding(letters) + self.position
        scores: Tensor = self.head(self.layers(features, mask=self.mask, is_causal=True))
        return scores


class Boxes(nn.Module):
    """A tiny detector: where is the digit, as centre and logarithm of the size."""

    def __init__(self, numbers: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 24, 3, 2, 1), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(24 * 16, numbers)

    def forward(self, images: Tensor) -> Tensor:
        """``[N, numbers]`` for images ``[N, 1, 16, 16]``."""
        out: Tensor = self.head(self.body(images))
        return out


class RareWords(nn.Module):
    """An embedding in which most rows are hardly ever asked for."""

    def __init__(self, words: int = 2000, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.head = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, words: Tensor) -> Tensor:
        """Scores ``[N, 10]`` for bags of words ``[N, T]``."""
        scores: Tensor = self.head(self.embedding(words).sum(1))
        return scores
