"""Faults, each put into a training once: what they touch, and for how many steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.survival.workload import Batch

HIGH_EXPONENT_BIT = 30
BURST = 10
BUG_STEPS, BUG_FACTOR = 5, 100.0


@dataclass(frozen=True)
class Injection:
    """One fault.

    Attributes:
        name: unique.
        batches: how many batches it changes, from the step of the fault on.
        batch: what it makes of them.
        rate: factor on the learning rate in the same steps.
        state: what it does to model and optimizer before the step of the fault.
        fits: whether this training can have it.
    """

    name: str
    batches: int = 0
    batch: Callable[[Batch, torch.Generator], Batch] = lambda batch, _: batch
    rate: float = 1.0
    state: Callable[[nn.Module, Optimizer, torch.Generator], None] = lambda *_: None
    fits: Callable[[nn.Module, Optimizer], bool] = field(default=lambda *_: True)


def injections() -> dict[str, Injection]:
    """All by name."""
    found = (
        Injection("NaN batch", 1, _planted(math.nan)),
        Injection("Inf batch", 1, _planted(math.inf)),
        Injection("label burst", BURST, _shuffled),
        Injection("rate x 100", BUG_STEPS, rate=BUG_FACTOR),
        Injection("weight bit", state=_flip_weight),
        Injection("first moment bit", state=_flipper("momentum_buffer", "exp_avg")),
        Injection("second moment bit", state=_flipper("exp_avg_sq"), fits=_is_adam),
        Injection("NaN statistics", state=_statistics(math.nan), fits=_has_norm),
        Injection("huge statistics", state=_statistics(1e12), fits=_has_norm),
    )
    return {one.name: one for one in found}


def _planted(value: float) -> Callable[[Batch, torch.Generator], Batch]:
    """One element of the inputs; of letters, which can't hold it, a model sees it in the embedding's output."""

    def planted(batch: Batch, generator: torch.Generator) -> Batch:
        inputs, targets = batch
        if not inputs.is_floating_point():
            return inputs, targets
        inputs = inputs.clone()
        row = int(torch.randint(0, len(inputs), (), generator=generator))
        inputs[row].view(-1)[0] = value
        return inputs, targets

    return planted


def _shuffled(batch: Batch, generator: torch.Generator) -> Batch:
    """Targets that belong to other inputs; a regression's are ten times as far out too."""
    inputs, targets = batch
    order = torch.randperm(targets.numel(), generator=generator)
    mixed = targets.reshape(-1)[order].reshape(targets.shape)
    return inputs, mixed * 10.0 if targets.is_floating_point() else mixed


def _flip_weight(model: nn.Module, optimizer: Optimizer, generator: torch.Generator) -> None:
    del optimizer
    matrices = [param for param in model.parameters() if param.dim() > 1]
    _flip(matrices[int(torch.randint(0, len(matrices), (), generator=generator))], generator)


def _flipper(*names: str) -> Callable[[nn.Module, Optimizer, torch.Generator], None]:
    def flip(model: nn.Module, optimizer: Optimizer, generator: torch.Generator) -> None:
        del model
        moments = [state[name] for state in optimizer.state.values() for name in names if name in state]
        matrices = [one for one in moments if one is not None and one.dim() > 1]
        if matrices:
            _flip(matrices[int(torch.randint(0, len(matrices), (), generator=generator))], generator)

    return flip


def _statistics(value: float) -> Callable[[nn.Module, Optimizer, torch.Generator], None]:
    def poison(model: nn.Module, optimizer: Optimizer, generator: torch.Generator) -> None:
        del optimizer
        layers = [one for one in model.modules() if isinstance(one, (nn.BatchNorm1d, nn.BatchNorm2d))]
        layer = layers[int(torch.randint(0, len(layers), (), generator=generator))]
        assert layer.running_var is not None
        layer.running_var.fill_(value)

    return poison


def _has_norm(model: nn.Module, optimizer: Optimizer) -> bool:
    del optimizer
    return any(isinstance(one, (nn.BatchNorm1d, nn.BatchNorm2d)) for one in model.modules())


def _is_adam(model: nn.Module, optimizer: Optimizer) -> bool:
    del model
    return isinstance(optimizer, torch.optim.Adam)


def _flip(tensor: Tensor, generator: torch.Generator) -> None:
    with torch.no_grad():
        flat = tensor.view(torch.int32).view(-1)
        flat[int(torch.randint(0, len(flat), (), generator=generator))] ^= 1 << HIGH_EXPONENT_BIT
