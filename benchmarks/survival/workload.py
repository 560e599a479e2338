"""One training that a policy is judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = tuple[Tensor, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True)
class Workload:
    """A model, a stream of batches and what goes wrong on the way.

    Attributes:
        name: unique.
        family: workloads of one family share a cause; constants are chosen on some families and judged
            on others.
        build: makes the model; torch is seeded before the call.
        optimizer: makes the optimizer for a learning rate.
        lr: learning rate at loss scale 1.
        batches: endless batches from a generator.
        loss: of a model on a batch.
        held_out: loss of a model on data that it has never seen, a number that a loss scale doesn't change.
        guess: ``held_out`` of the best constant prediction.
        steps: optimizer steps.
        stable: a control: nothing goes wrong, nothing should be done.
        lr_at: factor on the learning rate at a step.
        loss_at: factor on the loss at a step.
        fault: called before a step with the step, the model and the optimizer; may damage them.
        scaled: whether other loss scales make sense.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module, float], Optimizer]
    lr: float
    batches: Callable[[torch.Generator], Iterator[Batch]]
    loss: Loss
    held_out: Callable[[nn.Module], float]
    guess: float
    steps: int
    stable: bool = False
    lr_at: Callable[[int], float] = lambda step: 1.0  # noqa: ARG005 - the healthy default
    loss_at: Callable[[int], float] = lambda step: 1.0  # noqa: ARG005 - same
    fault: Callable[[int, nn.Module, Optimizer], None] | None = None
    scaled: bool = True


def sgd(momentum: float = 0.9, weight_decay: float = 0.0) -> Callable[[nn.Module, float], Optimizer]:
    """SGD with momentum."""
    return lambda model, lr: torch.optim.SGD(
        (p for p in model.parameters() if p.requires_grad), lr, momentum, weight_decay=weight_decay
    )


def adamw(weight_decay: float = 0.0) -> Callable[[nn.Module, float], Optimizer]:
    """AdamW, as everybody configures it."""
    return lambda model, lr: torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad), lr, weight_decay=weight_decay
    )


def follows_loss_scale(optimizer: Optimizer) -> bool:
    """Whether the rate has to be divided by the loss scale for the same trajectory."""
    return isinstance(optimizer, torch.optim.SGD)
