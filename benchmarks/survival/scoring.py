"""Losses, and the loss on data that was never seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from benchmarks.survival import data
from benchmarks.survival.workload import Batch

HELD_OUT_SEED = 7


def squared(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(model(batch[0]), batch[1])


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy over rows, or rows and time steps."""
    scores = model(batch[0])
    return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), batch[1].reshape(-1))


def reconstruction(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of an autoencoder."""
    return F.mse_loss(model(batch[0]), batch[0])


def gaussian(model: nn.Module, batch: Batch) -> Tensor:
    """Negative log-likelihood of a normal distribution whose width is learnt too."""
    mean, log_width = model(batch[0]).chunk(2, -1)
    each = log_width + 0.5 * ((batch[1] - mean) / log_width.exp()).square()
    return each.mean()


def box(model: nn.Module, batch: Batch) -> Tensor:
    """1 - IoU of boxes given as centre and logarithm of the size, plus the distance of the centres."""
    found, wanted = model(batch[0]), batch[1]
    centre, size = found[:, :2], found[:, 2:].exp()
    low, high = (
        torch.maximum(centre - size / 2, _low(wanted)),
        torch.minimum(centre + size / 2, _high(wanted)),
    )
    shared = (high - low).clamp_min(0).prod(1)
    union = size.prod(1) + wanted[:, 2:].prod(1) - shared
    far = (centre - wanted[:, :2]).square().sum(1) / (wanted[:, 2:].square().sum(1))
    return (1 - shared / union + far).mean()


def keypoints(model: nn.Module, batch: Batch) -> Tensor:
    """Object keypoint similarity: distances in units of the object's area, which may be tiny."""
    found, wanted = model(batch[0]), batch[1]
    distance = (found[:, :2] - wanted[:, :2]).square().sum(1)
    return (distance / (2 * wanted[:, 2:].prod(1) * 0.05)).mean()


def _low(boxes: Tensor) -> Tensor:
    return boxes[:, :2] - boxes[:, 2:] / 2


def _high(boxes: Tensor) -> Tensor:
    return boxes[:, :2] + boxes[:, 2:] / 2


def on(batch: Batch, loss: Callable[[nn.Module, Batch], Tensor]) -> Callable[[nn.Module], float]:
    """Loss on one batch, in evaluation mode."""

    def held_out(model: nn.Module) -> float:
        model.eval()
        with torch.no_grad():
            value = float(loss(model, batch))
        model.train()
        return value

    return held_out


def on_digits(loss: Callable[[nn.Module, Batch], Tensor]) -> Callable[[nn.Module], float]:
    """Loss on the digits that were kept back."""
    split = data.digits()
    return on((split.held_inputs, split.held_targets), loss)


def on_taught() -> Callable[[nn.Module], float]:
    """Squared error on clean rows of the teacher's."""
    return on(data.taught(1024, data.gen(HELD_OUT_SEED)), squared)


def on_text(length: int) -> Callable[[nn.Module], float]:
    """Cross-entropy on text that was kept back."""
    return on(data.text_batch(length, 96, data.gen(HELD_OUT_SEED), held_out=True), cross_entropy)


def taught_guess() -> float:
    """Squared error of the teacher's mean."""
    targets = data.taught(1024, data.gen(HELD_OUT_SEED))[1]
    return float((targets - targets.mean(0)).square().mean())


DIGITS_GUESS = math.log(10)
