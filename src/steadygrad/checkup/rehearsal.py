"""A few training steps on a copy: what would this optimizer do at this rate?"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.calling import LossFn, call_model, loss_of
from steadygrad.checkup.look import eagerly
from steadygrad.preserve import backward_into, preserved

Pair = tuple[nn.Module, Optimizer]

# What a scheduler wraps belongs to the original; the class's own step does for a copy.
_NOT_COPIED = frozenset({"step", "_opt_called"})


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What happened on the copy.

    Attributes:
        losses: before each step, and after the last; cut off at the first non-finite one.
        update_ratio: largest ``|change| / |weights|`` over the weight matrices in the first step.
        moved: whether the first step changed anything.
        reached: names of the parameters that had a gradient in the first step.
    """

    losses: tuple[float, ...]
    update_ratio: float
    moved: bool
    reached: frozenset[str] = frozenset()

    @property
    def finite(self) -> bool:
        """Whether every loss was."""
        return all(map(math.isfinite, self.losses))


def copied(model: nn.Module, optimizer: Optimizer) -> Pair:
    """Model and optimizer copied together, without anybody's hooks.

    Raises:
        Exception: whatever keeps the model from being copied.
    """
    memo: dict[int, Any] = {}
    twin = copy.deepcopy(model, memo)
    other = copy.deepcopy(optimizer, memo)
    # An optimizer copies its groups and state; one that is built around another holds more.
    for name, value in vars(optimizer).items():
        if name not in vars(other) and name not in _NOT_COPIED and "hooks" not in name:
            setattr(other, name, copy.deepcopy(value, memo))
    for hooks in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
        getattr(other, hooks, {}).clear()
    return twin, other


def rehearse(
    pair: Pair,
    batch: object,
    loss_fn: LossFn | None,
    steps: int,
    before_step: Callable[[nn.Module, int], None] | None = None,
) -> Rehearsal:
    """Train a copy for a few steps on one batch.

    Args:
        pair: from `copied`; is changed.
        batch: used for every step.
        loss_fn: as in `steadygrad.check`.
        steps: how many.
        before_step: called with the model and the number of the step once its gradients are there.
    """
    model, optimizer = pair
    losses: list[float] = []
    ratio, moved, reached = 0.0, False, frozenset[str]()
    # For the random states and the loss function: the copy may change as it likes.
    with preserved(model, loss_fn), torch.enable_grad(), eagerly():
        for step in range(steps):
            optimizer.zero_grad()
            loss = loss_of(call_model(model, batch), batch, loss_fn)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]) or not loss.requires_grad:
                return Rehearsal(tuple(losses), ratio, moved, reached)
            backward_into(loss, model.parameters())
            if step == 0:
                reached = frozenset(name for name, one in model.named_parameters() if one.grad is not None)
            if before_step is not None:
                before_step(model, step)
            before = [param.detach().clone() for param in model.parameters()] if step == 0 else []
            _step(optimizer, model, batch, loss_fn)
            if before:
                ratio, moved = _change(list(model.parameters()), before)
        with torch.no_grad():
            losses.append(float(loss_of(call_model(model, batch), batch, loss_fn)))
    return Rehearsal(tuple(losses), ratio, moved, reached)


def _step(optimizer: Optimizer, model: nn.Module, batch: object, loss_fn: LossFn | None) -> None:
    if not isinstance(optimizer, torch.optim.LBFGS):
        optimizer.step()
        return

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(call_model(model, batch), batch, loss_fn)
        backward_into(loss, model.parameters())
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def _change(params: list[nn.Parameter], before: list[Tensor]) -> tuple[float, bool]:
    ratio, moved = 0.0, False
    for param, old in zip(params, before, strict=True):
        change = float(torch.linalg.vector_norm((param.detach() - old).double()))
        moved |= change > 0.0
        length = float(torch.linalg.vector_norm(old.double()))
        if param.dim() > 1 and length > 0:
            ratio = max(ratio, change / length)
    return ratio, moved
