"""A task that trains in milliseconds, and can be made to fail in each of the ways the demo knows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygrad.demo.workload import Workload, generator


class Line(Workload):
    """Fit a line through eight points; ``scale`` multiplies the loss, ``poison`` ruins one batch."""

    key, title, setting, unit = "line", "a line", "SGD on eight points", "squares"
    guess = 1.0

    def __init__(self, scale=1.0, poison=None, steps=20, bad=float("nan")):
        self.scale, self.poison, self.steps, self.bad = scale, poison or (), steps, bad
        self.inputs = torch.linspace(-1.5, 1.5, 8)[:, None]
        self.targets = self.inputs / self.inputs.square().mean().sqrt()

    def build_model(self):
        return nn.Linear(1, 1)

    def build_optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

    def batches(self, seed):
        order = generator(seed)
        for step in range(self.steps):
            chosen = torch.randint(8, (4,), generator=order)
            spoilt = torch.full((4, 1), self.bad) if step in self.poison else self.inputs[chosen]
            yield spoilt, self.targets[chosen]

    def loss(self, model, batch):
        inputs, targets = batch
        return self.scale * (model(inputs) - targets).square().mean()

    def held_out_loss(self, model):
        return float((model(self.inputs) - self.targets).square().mean())


@pytest.fixture
def line():
    return Line
