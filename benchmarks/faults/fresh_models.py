"""Networks, data and an optimizer of the fresh families, which share none of the others'.

Shape legend: N rows, C channels, T time steps, D features, K mixture components, G graph nodes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import Optimizer

from benchmarks.faults.data import Pair


@functools.cache
def handwriting() -> Pair:
    """Real handwritten digits in [0, 1], ``[N, 1, 8, 8]``."""
    found = datasets.load_digits()
    return torch.tensor(found.images / 16, dtype=torch.float32)[:, None], torch.tensor(found.target)


@functools.cache
def wines(*, raw: bool = False) -> Pair:
    """Thirteen measurements of 178 wines, standardised unless ``raw``, ``[N, 13]``."""
    found = datasets.load_wine()
    inputs = torch.tensor(found.data, dtype=torch.float32)
    return (inputs if raw else (inputs - inputs.mean(0)) / inputs.std(0)), torch.tensor(found.target)


@functools.cache
def tumours() -> Pair:
    """Thirty standardised measurements of 569 tumours, ``[N, 30]``."""
    found = datasets.load_breast_cancer()
    inputs = torch.tensor(found.data, dtype=torch.float32)
    return (inputs - inputs.mean(0)) / inputs.std(0), torch.tensor(found.target)


@functools.cache
def patients() -> Pair:
    """Ten standardised features of 442 patients and how their diabetes went on, ``[N, 10]`` and ``[N, 1]``."""
    found = datasets.load_diabetes(scaled=False)
    inputs = torch.tensor(found.data, dtype=torch.float32)
    targets = torch.tensor(found.target, dtype=torch.float32)[:, None]
    return (inputs - inputs.mean(0)) / inputs.std(0), (targets - targets.mean()) / targets.std()


@functools.cache
def seasons(length: int = 24) -> Pair:
    """Windows of a monthly series with trend, season and autocorrelated noise, and the next value, ``[N, T, 1]``."""
    generator = torch.Generator().manual_seed(31)
    noise = torch.randn(720, generator=generator)
    for month in range(1, 720):
        noise[month] += 0.7 * noise[month - 1]
    month = torch.arange(720)
    series = torch.sin(2 * math.pi * month / 12) + month / 720 + 0.15 * noise
    series = (series - series.mean()) / series.std()
    windows = series.unfold(0, length + 1, 1)
    return windows[:, :-1, None].clone(), windows[:, -1:].clone()


@functools.cache
def bags() -> Pair:
    """Sets of twelve vectors; positive where one of them is of a rare kind, ``[N, 12, 6]``."""
    generator = torch.Generator().manual_seed(32)
    labels = torch.arange(500) % 2
    sets = torch.randn(500, 12, 6, generator=generator)
    place = torch.randint(0, 12, (500,), generator=generator)
    sets[torch.arange(500), place, 0] += 4.0 * labels
    return sets, labels


class GroupNormNet(nn.Module):
    """A residual net for 8 x 8 pictures with GroupNorm."""

    def __init__(self, width: int = 16, blocks: int = 3) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, width, 3, padding=1), nn.Linear(width, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)),
                *(nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)),
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


class Forecaster(nn.Module):
    """A GRU that tells the next value."""

    def __init__(self, width: int = 24, layers: int = 1) -> None:
        super().__init__()
        self.core = nn.GRU(1, width, layers, batch_first=True)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return self.head(self.core(x)[0][:, -1])


class BagOfWords(nn.Module):
    """`nn.EmbeddingBag` and a head."""

    def __init__(self, *, sparse: bool = False) -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(300, 16, sparse=sparse), nn.Linear(16, 4)

    def forward(self, words: Tensor) -> Tensor:
        """Apply it."""
        return self.head(self.bag(words))


@functools.cache
def notes() -> Pair:
    """Texts of ten words out of 300, about one of four subjects, ``[N, 10]``."""
    generator = torch.Generator().manual_seed(33)
    labels = torch.arange(600) % 4
    words = torch.randint(0, 300, (600, 10), generator=generator)
    words[:, :3] = torch.randint(0, 75, (600, 3), generator=generator) + 75 * labels[:, None]
    return words, labels


class AttentionPool(nn.Module):
    """Attention over a set (Ilse et al. 2018, arXiv:1802.04712), gated."""

    def __init__(self, features: int = 6, width: int = 24, outputs: int = 2) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(features, width), nn.ReLU())
        self.value, self.gate, self.score = nn.Linear(width, 16), nn.Linear(width, 16), nn.Linear(16, 1)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor, absent: Tensor | None = None) -> Tensor:
        """Apply it; ``absent`` is True where nothing lies in the bag."""
        h = self.encode(x)
        score = self.score(torch.tanh(self.value(h)) * torch.sigmoid(self.gate(h)))[..., 0]
        if absent is not None:
            score = score.masked_fill(absent, -math.inf)
        return self.head((score.softmax(-1)[..., None] * h).sum(1))


class Mixer(nn.Module):
    """Mixing over places and over channels in turns (Tolstikhin et al. 2021, arXiv:2105.01601)."""

    def __init__(self, blocks: int = 3, width: int = 24, *, normalised: bool = True) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(1, width, 2, 2), nn.Linear(width, 10)
        norm: Callable[[], nn.Module] = (lambda: nn.LayerNorm(width)) if normalised else nn.Identity
        self.norms = nn.ModuleList(norm() for _ in range(2 * blocks))
        self.places = nn.ModuleList(_two(16, 32) for _ in range(blocks))
        self.channels = nn.ModuleList(_two(width, 48) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        x = self.embed(x).flatten(2).transpose(1, 2)
        for i, (places, channels) in enumerate(zip(self.places, self.channels, strict=True)):
            x = x + places(self.norms[2 * i](x).transpose(1, 2)).transpose(1, 2)
            x = x + channels(self.norms[2 * i + 1](x))
        return self.head(x.mean(1))


def _two(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Variational(nn.Module):
    """An autoencoder with a Gaussian code; returns reconstruction, mean and log-variance."""

    def __init__(self, features: int = 64, code: int = 4) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(features, 48), nn.ReLU(), nn.Linear(48, 2 * code))
        self.decode = nn.Sequential(nn.Linear(code, 48), nn.ReLU(), nn.Linear(48, features))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply it."""
        mean, log_var = self.encode(x.flatten(1)).chunk(2, 1)
        return self.decode(mean + torch.randn_like(mean) * torch.exp(log_var / 2)), mean, log_var


def elbo(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    """Squared error and divergence from a unit Gaussian."""
    made, mean, log_var = out
    divergence = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1).mean()
    return (made - x.flatten(1)).square().sum(1).mean() + 0.1 * divergence


class GraphNet(nn.Module):
    """Messages over a fixed graph; features are summed over neighbours, or averaged."""

    def __init__(self, layers: int = 3, width: int = 24, *, averaged: bool = True) -> None:
        super().__init__()
        inputs, labels = tumours()
        distance = torch.cdist(inputs, inputs)
        edges = (distance < distance.flatten().kthvalue(distance.numel() // 10).values).float()
        self.register_buffer("edges", edges / edges.sum(1, keepdim=True) if averaged else edges)
        sizes = [30, *[width] * layers]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(width, int(labels.max()) + 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to all nodes ``[G, D]``."""
        for layer in self.layers:
            x = torch.relu(layer(self.edges @ x))
        return self.head(x)


def mixture_loss(out: Tensor, target: Tensor, floor: float = 1e-3) -> Tensor:
    """Negative log-likelihood of ``K`` Gaussians (Bishop 1994), ``out [N, 3 K]``."""
    logits, mean, log_scale = out.chunk(3, 1)
    scale = log_scale.exp() + floor
    parts = -0.5 * ((target - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(logits.log_softmax(1) + parts, 1).mean()


@functools.cache
def inverse() -> Pair:
    """Bishop's inverse problem: one input, up to three answers, ``[N, 1]`` each."""
    generator = torch.Generator().manual_seed(34)
    answer = torch.rand(800, 1, generator=generator)
    noise = 0.1 * (torch.rand(800, 1, generator=generator) - 0.5)
    return answer + 0.3 * torch.sin(2 * math.pi * answer) + noise, answer


def two_views(x: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Each picture twice, noisy; the same for the same step."""
    noise = torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(step))
    return x + 0.2 * noise[0], x + 0.2 * noise[1]


def contrast(one: Tensor, other: Tensor, temperature: float = 0.2) -> Tensor:
    """Which of the others is mine (InfoNCE)."""
    return F.cross_entropy(one @ other.T / temperature, torch.arange(len(one)))


class Lion(Optimizer):
    """The sign of an interpolated momentum (Chen et al. 2023, arXiv:2302.06675, algorithm 2)."""

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one step."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for param in (one for one in group["params"] if one.grad is not None):
                state = self.state[param]
                momentum = state.setdefault("exp_avg", torch.zeros_like(param))
                param.add_(torch.lerp(param.grad, momentum, first).sign(), alpha=-group["lr"])
                momentum.lerp_(param.grad, 1 - second)
        return loss
