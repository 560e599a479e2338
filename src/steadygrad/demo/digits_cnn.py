"""A very deep plain convolutional network on scikit-learn's handwritten digits.

Shape legend: N images, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

from steadygrad.demo.workload import Batch, Workload, generator

DEPTH = 24
CHANNELS = 16
SIDE = 3
LEARNING_RATE = 1e-3
MOMENTUM = 0.9
IMAGES = 32
HELD_OUT = 397
CLASSES = 10


class PlainCNN(nn.Module):
    """Convolutions and ReLUs, one after the other, without normalisation or shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_convolution(place) for place in range(DEPTH))
        self.head = nn.Linear(CHANNELS, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``[N, 10]`` for images ``[N, 1, 8, 8]``."""
        maps = images
        for layer in self.layers:
            maps = layer(maps).relu()
        scores: Tensor = self.head(maps.mean(dim=(2, 3)))
        return scores


def _convolution(place: int) -> nn.Conv2d:
    """One layer with its unlucky weights; the second halves the image, to save time."""
    stride = 2 if place == 1 else 1
    channels = CHANNELS if place else 1
    layer = nn.Conv2d(channels, CHANNELS, kernel_size=SIDE, padding=SIDE // 2, stride=stride)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (channels * SIDE)))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class DigitsCNN(Workload):
    """Recognise digits, with weights drawn by He's rule and a slip in it.

    The rule for ReLU is ``std = sqrt(2 / fan_in)``, and a weight's ``fan_in`` is channels times the
    kernel's area. Here it was multiplied by the kernel's side: each layer is sqrt(3) = 1.7 times too
    strong. That is harmless in three layers; in 24 the signal, and the gradient with it, becomes
    3**12 = 500,000 times larger (less in practice, because the padding is zero).

    Args:
        quick: train for a few steps only.
    """

    key = "digits"
    title = f"{DEPTH}-layer CNN, handwritten digits"
    setting = (
        f"{DEPTH} plain {SIDE} x {SIDE} convolutions with {CHANNELS} channels, SGD at {LEARNING_RATE:g} with momentum "
        f"{MOMENTUM:g}; He's initialisation with a slip: fan_in is channels x {SIDE} instead of channels x {SIDE} x {SIDE}, "
        f"so every layer is {math.sqrt(SIDE):.1f} times too strong."
    )
    unit = "nats a digit"
    guess = math.log(CLASSES)

    def __init__(self, *, quick: bool = False) -> None:
        self.steps = 60 if quick else 500
        digits = load_digits()
        mix = torch.randperm(len(digits.target), generator=generator(0))
        images = torch.as_tensor(digits.images, dtype=torch.float32)[mix, None] / 16
        labels = torch.as_tensor(digits.target)[mix]
        self._training = images[:-HELD_OUT], labels[:-HELD_OUT]
        self._held_out = images[-HELD_OUT:], labels[-HELD_OUT:]

    def build_model(self) -> nn.Module:
        """The network with its unlucky weights."""
        return PlainCNN()

    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """Momentum at a rate that somebody has already lowered."""
        return SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def batches(self, seed: int) -> Iterator[Batch]:
        """Random images ``[N, 1, 8, 8]`` with their labels ``[N]``."""
        order = generator(seed)
        images, labels = self._training
        for _ in range(self.steps):
            chosen = torch.randint(len(labels), (IMAGES,), generator=order)
            yield images[chosen], labels[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy."""
        images, labels = batch
        return cross_entropy(model(images), labels)

    def held_out_loss(self, model: nn.Module) -> float:
        """Mean cross-entropy of the held-out digits."""
        return float(self.loss(model, self._held_out))

    def accuracy(self, model: nn.Module) -> float:
        """Share of held-out digits recognised; NaN scores recognise nothing."""
        images, labels = self._held_out
        scores = model(images)
        right = (scores.argmax(dim=1) == labels) & scores.isfinite().all(dim=1)
        return float(right.float().mean())
