"""What goes wrong in a pipeline, a chip or a schedule."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.survival.workload import Batch

HIGH_EXPONENT_BIT = 30


def outlier_targets(share: float, size: float) -> Callable[[Tensor, Tensor, torch.Generator], Batch]:
    """Replace the targets of a share of the rows by huge noise."""

    def damage(inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
        hit = torch.rand(len(inputs), 1, generator=generator) < share
        return inputs, torch.where(
            hit, targets + size * torch.randn(targets.shape, generator=generator), targets
        )

    return damage


def outlier_inputs(share: float, factor: float) -> Callable[[Tensor, Tensor, torch.Generator], Batch]:
    """Multiply the inputs of a share of the rows."""

    def damage(inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
        hit = torch.rand(len(inputs), 1, generator=generator) < share
        return torch.where(hit, inputs * factor, inputs), targets

    return damage


def nonfinite_batches(share: float, value: float) -> Callable[[Tensor, Tensor, torch.Generator], Batch]:
    """Plant one NaN or Inf into a share of the batches."""

    def damage(inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
        if torch.rand((), generator=generator) < share:
            inputs = inputs.clone()
            inputs[0, 0] = value
        return inputs, targets

    return damage


def between(first: int, last: int, factor: float) -> Callable[[int], float]:
    """A factor that holds for some steps."""
    return lambda step: factor if first <= step < last else 1.0


def from_step(first: int, factor: float) -> Callable[[int], float]:
    """A factor that holds from a step on."""
    return lambda step: factor if step >= first else 1.0


def flip_weight_bit(at: int) -> Callable[[int, nn.Module, Optimizer], None]:
    """Flip the highest exponent bit of one weight in the middle of the model, as a broken chip does."""

    def fault(step: int, model: nn.Module, optimizer: Optimizer) -> None:
        del optimizer
        if step == at:
            matrices = [param for param in model.parameters() if param.dim() > 1]
            _flip(matrices[len(matrices) // 2])

    return fault


def flip_moment_bit(at: int) -> Callable[[int, nn.Module, Optimizer], None]:
    """The same in the optimizer's first moment (or momentum)."""

    def fault(step: int, model: nn.Module, optimizer: Optimizer) -> None:
        del model
        if step != at:
            return
        for state in optimizer.state.values():
            moment = state.get("exp_avg", state.get("momentum_buffer"))
            if moment is not None and moment.dim() > 1:
                _flip(moment)
                return

    return fault


def _flip(tensor: Tensor) -> None:
    with torch.no_grad():
        flat = tensor.view(torch.int32).view(-1)
        flat[len(flat) // 2] ^= 1 << HIGH_EXPONENT_BIT
