"""What the healthy trainings are built from, and where they are listed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from benchmarks.remedies.training import Builder

HEALTHY: dict[str, Builder] = {}


def healthy(build: Builder) -> Builder:
    """Add it to the zoo."""
    HEALTHY[build.__name__] = build
    return build


def adam(model: nn.Module, lr: float = 1e-3, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr, **more)


def sgd(model: nn.Module, lr: float = 0.05, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr, **more)


def mlp(*widths: int, act: Any = nn.ReLU, last: nn.Module | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), act()]
    return nn.Sequential(*layers[:-1], *([last] if last is not None else []))
