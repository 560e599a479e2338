"""Attention, normalisation and the rates of transformers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.faults.case import faulty
from benchmarks.faults.data import drawn, sequences, text
from benchmarks.faults.losses import cross_entropy, of_letters
from benchmarks.faults.models import LanguageModel, Transformer, filled
from benchmarks.faults.training import Training

TOO_HIGH = ("learning_rate_too_high", "oversized_update", "divergence", "exploding_gradient")


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        scores = self.query(x) @ x.transpose(1, 2) / math.sqrt(x.shape[-1])
        return scores.masked_fill(hidden[:, None, :], -math.inf).softmax(-1) @ x


class _Masked(nn.Module):
    """Attention by hand, with positions of zeros masked."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention, self.head = nn.Linear(8, 16), _Attention(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(self.embed(x), (x == 0).all(-1)).mean(1))


@faulty("transformers", "nonfinite_activation", at=0, nonfinite=True, place=("attention",))
def row_masked_completely() -> Training:
    model = _Masked()
    inputs, labels = sequences()
    empty = torch.arange(len(inputs)) < 128
    batches = drawn((inputs.masked_fill(empty[:, None, None], 0.0), labels))
    return Training(model, Adam(model.parameters()), batches, cross_entropy)


class _Padded(nn.Module):
    """torch's attention, asked for its weights: a row of padding alone is 0 / 0 then."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 32), nn.Linear(32, 4)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        hidden = self.embed(x)
        mixed, _ = self.attention(hidden, hidden, hidden, key_padding_mask=padding)
        return self.head((hidden + mixed).mean(1))


@faulty("transformers", "nonfinite_activation", at=30, nonfinite=True, place=("attention",))
def example_that_is_all_padding() -> Training:
    model = _Padded()

    def batches(step: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        x, y = drawn(sequences())(step)
        padding = torch.zeros(x.shape[:2], dtype=torch.bool)
        padding[::2, 10:] = True
        if step == 30:
            padding[5] = True
        return (x, padding), y

    return Training(model, Adam(model.parameters()), batches, cross_entropy)


@faulty("transformers", *TOO_HIGH, "vanishing_gradient", curable=True, steps=80)
def post_norm_without_warm_up() -> Training:
    model = Transformer(depth=10, first=False)
    return Training(model, Adam(model.parameters(), 2e-2), drawn(sequences()), cross_entropy)


@faulty("transformers", *TOO_HIGH, "loss_spike", at=0, sudden=True, curable=True, steps=80)
def pre_norm_at_rate_of_a_third() -> Training:
    model = Transformer(depth=6)
    return Training(model, Adam(model.parameters(), 0.3), drawn(sequences()), cross_entropy)


@faulty("transformers", *TOO_HIGH, "loss_spike", at=60, sudden=True, steps=120)
def rate_a_thousandfold_in_mid_run() -> Training:
    model = LanguageModel()
    optimizer = AdamW(model.parameters(), 1e-3)

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 1.0 if step >= 60 else 1e-3

    return Training(model, optimizer, drawn(text(), 16), of_letters, before)


@faulty("transformers", "exploding_gradient", "learning_rate_too_high", at=0, curable=True)
def embeddings_of_spread_a_hundred() -> Training:
    class Tied(LanguageModel):
        def forward(self, x: Tensor) -> Tensor:
            hidden = self.embed(x) + self.place.weight[: x.shape[1]]
            return self.encoder(hidden, mask=self.mask, is_causal=True) @ self.embed.weight.T

    model = Tied()
    nn.init.normal_(model.embed.weight, 0, 100.0)
    return Training(model, SGD(model.parameters(), 0.1), drawn(text(), 16), of_letters)


class _BareNorm(nn.Module):
    """Layer normalisation without epsilon."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)


@faulty("transformers", "nonfinite_activation", at=15, nonfinite=True, place=("norm",))
def norm_without_epsilon() -> Training:
    model = nn.Sequential()
    model.add_module("embed", nn.Linear(8, 32, bias=False))
    model.add_module("norm", _BareNorm())
    model.add_module("body", nn.Sequential(nn.Flatten(), nn.Linear(512, 4)))

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(sequences())(step)
        if step == 15:
            x = x.clone()
            x[3, 12:] = 0.0
        return x, y

    return Training(model, Adam(model.parameters()), batches, cross_entropy)


class _Stream(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 32), nn.Linear(32, 4)
        blocks = (nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(depth))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden.mean(1))


@faulty(
    "transformers",
    "exploding_gradient",
    "nonfinite_activation",
    "nonfinite_gradient",
    "learning_rate_too_high",
    at=0,
    curable=True,
)
def residual_stream_without_norm() -> Training:
    model = filled(_Stream(32), lambda w: nn.init.orthogonal_(w, 1.6))
    return Training(model, SGD(model.parameters(), 0.05), drawn(sequences()), cross_entropy)
