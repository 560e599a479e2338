"""Transformers, and what else lives on embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import Adam, AdamW

from benchmarks.faults.case import healthy
from benchmarks.faults.data import drawn, images, sequences, text
from benchmarks.faults.losses import cross_entropy, of_letters
from benchmarks.faults.models import LanguageModel, Transformer
from benchmarks.faults.training import Training, clipped

FAMILY = "healthy transformer"
STEPS = 80


@healthy(FAMILY, steps=STEPS)
def pre_norm() -> Training:
    model = Transformer(depth=4)
    return Training(model, AdamW(model.parameters(), 1e-3), drawn(sequences()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def post_norm_with_warm_up() -> Training:
    model = Transformer(depth=4, first=False)
    optimizer = Adam(model.parameters(), 1e-3)

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 40)

    return Training(model, optimizer, drawn(sequences()), cross_entropy, before)


@healthy(FAMILY, steps=STEPS)
def post_norm_of_twelve_layers() -> Training:
    model = Transformer(depth=12, first=False)
    return Training(model, Adam(model.parameters(), 3e-4), drawn(sequences()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def language_model() -> Training:
    model = LanguageModel()
    optimizer = AdamW(model.parameters(), 3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    return Training(model, optimizer, drawn(text(), 16), of_letters, loop=clipped(1.0))


@healthy(FAMILY, steps=STEPS)
def language_model_with_tied_weights() -> Training:
    model = LanguageModel()
    model.head.weight = model.embed.weight
    nn.init.normal_(model.embed.weight, 0, 0.02)
    return Training(model, AdamW(model.parameters(), 1e-3), drawn(text(), 16), of_letters)


@healthy(FAMILY, steps=STEPS)
def smoothed_labels() -> Training:
    model = LanguageModel()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out.flatten(0, 1), y.flatten(), label_smoothing=0.1)

    return Training(model, AdamW(model.parameters(), 2e-3), drawn(text(), 16), loss)


@healthy(FAMILY, steps=STEPS)
def padded_sequences() -> Training:
    model = Transformer()

    def batches(step: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        x, y = drawn(sequences())(step)
        padding = torch.arange(x.shape[1]) >= (4 + torch.arange(len(x)) % 13)[:, None]
        return (x, padding), y

    return Training(model, AdamW(model.parameters(), 1e-3), batches, cross_entropy)


@healthy(FAMILY, steps=STEPS)
def patches_of_pictures() -> Training:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.token = nn.Conv2d(3, 32, 4, 4), nn.Parameter(torch.zeros(1, 1, 32))
            layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, "gelu", batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            patches = self.embed(x).flatten(2).transpose(1, 2)
            tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], 1)
            return self.head(self.encoder(tokens)[:, 0])

    model = Patches()
    return Training(model, AdamW(model.parameters(), 2e-3), drawn(images()), cross_entropy)


class _Experts(nn.Module):
    """Top-1 routing among eight experts, some of which nobody ever asks."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.router, self.head = nn.Linear(8, 32), nn.Linear(32, 8), nn.Linear(32, 4)
        expert = (nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(8))
        self.experts = nn.ModuleList(expert)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.embed(x)).flatten(0, 1)
        weight, choice = self.router(hidden).softmax(-1).max(-1)
        mixed = hidden.clone()
        for index, expert in enumerate(self.experts):
            rows = (choice == index).nonzero()[:, 0]
            if len(rows):
                mixed = mixed.index_add(0, rows, weight[rows, None] * expert(hidden[rows]))
        return self.head(mixed.view(*x.shape[:2], -1).mean(1))


@healthy(FAMILY, steps=STEPS)
def mixture_of_experts() -> Training:
    model = _Experts()
    model.router.bias.data[6:] = -1.5
    return Training(model, AdamW(model.parameters(), 2e-3), drawn(sequences()), cross_entropy)


@healthy(FAMILY, steps=STEPS)
def encoder_and_decoder() -> Training:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 32)
            self.core = nn.Transformer(32, 4, 2, 2, 64, 0.0, batch_first=True)
            self.head = nn.Linear(32, 20)

        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
            return self.head(self.core(self.embed(source), self.embed(target), tgt_mask=mask))

    model = Both()

    def batches(step: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        x, _ = drawn(text(), 16)(step)
        return (x[:, :12], torch.cat([x[:, :1] * 0, x[:, :11]], 1)), x[:, :12]

    return Training(model, Adam(model.parameters(), 1e-3), batches, of_letters)


@healthy(FAMILY, steps=STEPS)
def rare_words() -> Training:
    """2,000 embeddings of which a step sees fifty."""
    model = nn.Sequential(nn.Embedding(2000, 16), nn.Flatten(), nn.Linear(64, 5))
    words = (torch.rand(800, 4) ** 3 * 2000).long()
    return Training(model, Adam(model.parameters(), 0.01), drawn((words, words.sum(1) % 5)), cross_entropy)
