"""Optimizers of one layer, and a log of what the hooks report of their steps."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD

from steadygrad.stepping import StepHooks


class Log:
    """What the hooks reported, and whether gradients were there when they said so."""

    def __init__(self, optimizer):
        self.events = []
        params = [param for group in optimizer.param_groups for param in group["params"]]
        self.hooks = StepHooks(
            optimizer,
            lambda evaluation: self.events.append((evaluation, params[0].grad is not None)),
            lambda: self.events.append("stepped"),
            lambda: self.events.append("abandoned"),
        )


def one_weight(make=SGD, **options):
    model = nn.Linear(2, 1)
    optimizer = make(model.parameters(), **{"lr": 0.1, **options})
    return model, optimizer


def closure_of(model, optimizer, scale=1.0):
    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(1, 2)).square().sum() * scale
        loss.backward()
        return loss

    return closure


class Calling(SGD):
    def step(self, closure=None):
        return super().step(closure)


class Raising(Calling):
    raising = False

    def step(self, closure=None):
        loss = super().step(closure)
        if self.raising:
            raise RuntimeError("the user's own")
        return loss
