"""A training as a user writes it: a model, an optimizer, batches, a loss, and a plain loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Batches = Callable[[int], tuple[Any, Any]]
Loss = Callable[[Any, Any], Tensor]


@dataclass
class Training:
    """One training run.

    Attributes:
        model: what is trained.
        optimizer: what steps; several for losses that are played against each other.
        batches: inputs and targets of a step; the same step always gets the same.
        loss: of output and targets.
        before: called before each step with its number: schedules, and faults that strike in mid-run; does nothing
            unless given.
        loop: one step; returns the loss. None is `plain`.
        context: entered around forward pass and loss, for autocast.
    """

    model: nn.Module
    optimizer: Optimizer | list[Optimizer]
    batches: Batches
    loss: Loss
    before: Callable[[int], object] = int
    loop: Callable[[Training, int], Tensor] | None = None
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext

    def step(self, number: int) -> Tensor:
        """Make one step."""
        self.before(number)
        return (self.loop or plain)(self, number)

    def forward(self, number: int) -> Tensor:
        """The loss of a step's batch."""
        inputs, targets = self.batches(number)
        with self.context():
            return self.loss(called(self.model, inputs), targets)

    @property
    def optimizers(self) -> list[Optimizer]:
        """All of them."""
        return self.optimizer if isinstance(self.optimizer, list) else [self.optimizer]


def called(model: nn.Module, inputs: Any) -> Any:
    """The model's output."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def plain(training: Training, step: int) -> Tensor:
    """The loop of every tutorial."""
    training.optimizers[0].zero_grad()
    loss = training.forward(step)
    loss.backward()
    training.optimizers[0].step()
    return loss.detach()


def uncleared(training: Training, step: int) -> Tensor:
    """``zero_grad`` is missing."""
    loss = training.forward(step)
    loss.backward()
    training.optimizers[0].step()
    return loss.detach()


def cleared_too_late(training: Training, step: int) -> Tensor:
    """``zero_grad`` stands between backward pass and step."""
    loss = training.forward(step)
    loss.backward()
    training.optimizers[0].zero_grad()
    training.optimizers[0].step()
    return loss.detach()


def clipped(max_norm: float) -> Callable[[Training, int], Tensor]:
    """With ``clip_grad_norm_``."""

    def loop(training: Training, step: int) -> Tensor:
        training.optimizers[0].zero_grad()
        loss = training.forward(step)
        loss.backward()
        nn.utils.clip_grad_norm_(training.model.parameters(), max_norm)
        training.optimizers[0].step()
        return loss.detach()

    return loop


def accumulated(parts: int) -> Callable[[Training, int], Tensor]:
    """Several backward passes to one step."""

    def loop(training: Training, step: int) -> Tensor:
        training.optimizers[0].zero_grad()
        losses = []
        for part in range(parts):
            loss = training.forward(step * parts + part) / parts
            loss.backward()
            losses.append(loss.detach())
        training.optimizers[0].step()
        return torch.stack(losses).sum()

    return loop


def scaled(
    scaler: torch.amp.GradScaler, max_norm: float | None = None, *, unscale: bool = True
) -> Callable[[Training, int], Tensor]:
    """With a loss scaler, and a clip where a norm is given."""

    def loop(training: Training, step: int) -> Tensor:
        optimizer = training.optimizers[0]
        optimizer.zero_grad()
        loss = training.forward(step)
        scaler.scale(loss).backward()
        if max_norm is not None:
            if unscale:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(training.model.parameters(), max_norm)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return loop
