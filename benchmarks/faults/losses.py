"""Losses as people write them by hand, and a few of torch's under one signature."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

cross_entropy = F.cross_entropy
squared = F.mse_loss


def of_letters(output: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of every position."""
    return F.cross_entropy(output.flatten(0, 1), targets.flatten())


def raw_categorical(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Keras' categorical cross entropy without its clipping."""
    shares = probabilities / probabilities.sum(-1, keepdim=True)
    return -torch.log(shares).gather(1, labels[:, None]).mean()


def clipped_categorical(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The same with it."""
    shares = probabilities / probabilities.sum(-1, keepdim=True)
    return -torch.log(shares.clamp(1e-7, 1 - 1e-7)).gather(1, labels[:, None]).mean()


def raw_binary(probability: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy without clipping."""
    p, y = probability.squeeze(-1), labels.float()
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


def clipped_binary(probability: Tensor, labels: Tensor) -> Tensor:
    """The same with it."""
    p = probability.squeeze(-1).clamp(1e-7, 1 - 1e-7)
    return F.binary_cross_entropy(p, labels.float())


def binary_logits(logit: Tensor, labels: Tensor) -> Tensor:
    """The right one."""
    return F.binary_cross_entropy_with_logits(logit.squeeze(-1), labels.float())
