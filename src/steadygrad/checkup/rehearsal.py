"""A few training steps on a copy: what would this optimizer do at this rate?"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.calling import LossFn, call_model, loss_of
from steadygrad.preserve import preserved

Pair = tuple[nn.Module, Optimizer]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What happened on the copy.

    Attributes:
        losses: before each step, and after the last; cut off at the first non-finite one.
        update_ratio: largest ``|change| / |weights|`` over the weight matrices in the first step.
        moved: whether the first step changed anything.
    """

    losses: tuple[float, ...]
    update_ratio: float
    moved: bool

    @property
    def finite(self) -> bool:
        """Whether every loss was."""
        return all(map(math.isfinite, self.losses))


def copied(model: nn.Module, optimizer: Optimizer) -> Pair | None:
    """Model and optimizer copied together, without anybody's hooks; None where they can't be."""
    with contextlib.suppress(Exception):
        twin, other = copy.deepcopy((model, optimizer))
        for hooks in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
            getattr(other, hooks, {}).clear()
        return twin, other
    return None


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
    ratio, moved = 0.0, False
    # For the random states alone: the copy may change as it likes.
    with preserved(model), torch.enable_grad():
        for step in range(steps):
            optimizer.zero_grad()
            loss = loss_of(call_model(model, batch), batch, loss_fn)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]) or not loss.requires_grad:
                return Rehearsal(tuple(losses), ratio, moved)
            loss.backward()  # type: ignore[no-untyped-call]
            if before_step is not None:
                before_step(model, step)
            before = [param.detach().clone() for param in model.parameters()] if step == 0 else []
            _step(optimizer, model, batch, loss_fn)
            if before:
                ratio, moved = _change(list(model.parameters()), before)
        with torch.no_grad():
            losses.append(float(loss_of(call_model(model, batch), batch, loss_fn)))
    return Rehearsal(tuple(losses), ratio, moved)


def _step(optimizer: Optimizer, model: nn.Module, batch: object, loss_fn: LossFn | None) -> None:
    if not isinstance(optimizer, torch.optim.LBFGS):
        optimizer.step()
        return

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(call_model(model, batch), batch, loss_fn)
        loss.backward()  # type: ignore[no-untyped-call]
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
