"""How low could the loss go if something were free to move?"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDS = 40
_MEMORY = 10

MOST_NUMEL = 2_000_000
"""Elements that are moved: beyond it (a picture for each row) the search would cost more than the step."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a descent came.

    Attributes:
        loss: the lowest loss; NaN where it can't be computed or has no gradient.
        at: where it was found.
    """

    loss: float
    at: Tensor


def reachable(loss_at: Callable[[Tensor], Tensor], start: Tensor) -> Reached:
    """The lowest loss that descent on the argument itself finds.

    Args:
        loss_at: the loss as a function of one tensor.
        start: where to begin.
    """
    if start.numel() > MOST_NUMEL:
        return Reached(math.nan, start)
    value = start.detach().float().clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [value], max_iter=_ROUNDS, history_size=_MEMORY, line_search_fn="strong_wolfe"
    )
    best = Reached(math.nan, start)

    def closure() -> Tensor:
        nonlocal best
        loss = loss_at(value)
        # Not .backward(): the loss function may reach parameters, whose gradients aren't ours to change.
        (value.grad,) = torch.autograd.grad(loss, [value])
        found = float(loss.detach())
        if not found >= best.loss:
            best = Reached(found, value.detach().clone())
        return loss.detach()

    # Whatever the user's loss refuses (an output out of range) means that it can't be reached.
    with contextlib.suppress(Exception), torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return best


def best_constant(loss_at: Callable[[Tensor], Tensor], output: Tensor) -> Reached:
    """The lowest loss of a prediction that is the same for every row."""
    if output.dim() == 0 or output.numel() > MOST_NUMEL:
        return Reached(math.nan, output)
    shape = (1, *output.shape[1:]) if output.dim() > 1 else (1,)
    start = torch.zeros(shape, device=output.device)
    return reachable(lambda one: loss_at(one.expand(output.shape).to(output.dtype)), start)
