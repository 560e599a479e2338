"""Small data sets, made on the spot."""

from __future__ import annotations

import torch
from torch import Tensor


def blobs(rows: int = 600) -> tuple[Tensor, Tensor]:
    """Three clouds in the plane."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[-6.0, -4.0], [0.0, 6.0], [6.0, -3.0]])
    labels = torch.arange(rows) % 3
    return centres[labels] + 1.5 * torch.randn(rows, 2, generator=generator), labels


def rings(rows: int = 600) -> tuple[Tensor, Tensor]:
    """Two rings, one inside the other."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % 2
    angle = 6.2832 * torch.rand(rows, generator=generator)
    radius = 1.0 - 0.5 * labels
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return points + 0.05 * torch.randn(rows, 2, generator=generator), labels


def prototypes(rows: int = 600, width: int = 64, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Noisy copies of a few vectors in [0, 1]."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.rand(classes, width, generator=generator)
    labels = torch.arange(rows) % classes
    return (centres[labels] + 0.25 * torch.randn(rows, width, generator=generator)).clamp(0, 1), labels


def pictures(rows: int = 320, classes: int = 10, side: int = 16) -> tuple[Tensor, Tensor]:
    """Noisy copies of a few pictures of three channels in [0, 1]."""
    flat, labels = prototypes(rows, 3 * side * side, classes)
    return flat.view(rows, 3, side, side), labels


def waves(rows: int = 320, steps: int = 20, width: int = 4) -> tuple[Tensor, Tensor]:
    """Sequences, and the sum of their first feature over time."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(rows, steps, width, generator=generator)
    return inputs, inputs[..., 0].mean(1, keepdim=True) * steps**0.5


def tokens(rows: int = 320, steps: int = 12, vocabulary: int = 20) -> tuple[Tensor, Tensor]:
    """Random tokens, and the parity of the first one."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randint(0, vocabulary, (rows, steps), generator=generator)
    return inputs, inputs[:, 0] % 2


def curve(rows: int = 320, width: int = 8) -> tuple[Tensor, Tensor]:
    """A smooth function of a few normal features."""
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(rows, width, generator=generator)
    return inputs, torch.sin(inputs[:, :1]) + 0.5 * inputs[:, 1:2] * inputs[:, 2:3]
