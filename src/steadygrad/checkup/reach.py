"""How low could the loss go if something were free to move?"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

_ROUNDS = 40


def reachable(loss_at: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """The lowest loss that descent on the argument itself finds.

    Args:
        loss_at: the loss as a function of one tensor.
        start: where to begin.

    Returns:
        The loss; NaN where it can't be computed or has no gradient.
    """
    value = start.detach().float().clone().requires_grad_()
    optimizer = torch.optim.LBFGS([value], max_iter=_ROUNDS, line_search_fn="strong_wolfe")
    best = math.nan

    def closure() -> Tensor:
        nonlocal best
        optimizer.zero_grad()
        loss = loss_at(value)
        loss.backward()  # type: ignore[no-untyped-call]
        found = float(loss.detach())
        best = found if not found >= best else best
        return loss

    # Whatever the user's loss refuses (an output out of range) means that it can't be reached.
    with contextlib.suppress(Exception), torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return best


def best_constant(loss_at: Callable[[Tensor], Tensor], output: Tensor) -> float:
    """The lowest loss of a prediction that is the same for every row."""
    shape = (1, *output.shape[1:]) if output.dim() > 1 else (1,)
    return reachable(lambda one: loss_at(one.expand(output.shape)), torch.zeros(shape, device=output.device))
