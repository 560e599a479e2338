"""A training as a checkup takes it, with data enough to go on training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import steadygrad as sg

Builder = Callable[[], "Training"]
ROWS = 64


@dataclass(slots=True)
class Training:
    """Model, data, loss and optimizer.

    Attributes:
        model: the model.
        inputs: what it takes, all rows; a tensor, or a tuple of them.
        targets: None where the loss needs none.
        loss: called with output and targets; None for a model that returns its loss.
        optimizer: None to check without one.
        rows: rows of a batch.
    """

    model: nn.Module
    inputs: Any
    targets: Tensor | None
    loss: Callable[..., Tensor] | None
    optimizer: Optimizer | None = None
    rows: int = ROWS

    def batch(self, index: Tensor | None = None) -> Any:
        """Inputs of these rows; of the first ones without an index."""
        index = torch.arange(self.rows) if index is None else index
        if isinstance(self.inputs, tuple):
            return tuple(one[index] for one in self.inputs)
        if isinstance(self.inputs, dict):
            return {name: one[index] for name, one in self.inputs.items()}
        return self.inputs[index]

    def loss_fn(self, index: Tensor | None = None) -> Callable[[Any], Tensor] | None:
        """The loss of an output for these rows."""
        index = torch.arange(self.rows) if index is None else index
        loss = self.loss
        if loss is None:
            return None
        targets = None if self.targets is None else self.targets[index]
        return lambda output: loss(output, targets)

    def check(self) -> sg.Checkup:
        """The checkup on the first batch."""
        return sg.check(self.model, self.batch(), self.loss_fn(), self.optimizer)
