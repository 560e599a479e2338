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
    value = _near(loss_at, start.detach().float()).requires_grad_()
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


def is_target(loss_at: Callable[[Tensor], Tensor], best: Reached) -> bool:
    """Whether the best output is one certain place, as in a regression.

    A classifier's logits and what a discriminator judges have a direction instead: farther is better still.
    """
    again = reachable(loss_at, torch.full_like(best.at, 0.5))
    size = float(best.at.abs().max())
    if not float((again.at - best.at).abs().max()) <= 0.1 * max(size, 1e-3):
        return False
    with contextlib.suppress(Exception), torch.no_grad():
        beyond, before = float(loss_at(1.5 * best.at)), float(loss_at(0.5 * best.at))
        return beyond - best.loss > 0.1 * abs(before - best.loss)
    return True


def _near(loss_at: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """One long step along the gradient, as far as its curvature says: the line search ahead begins with a length of 1.

    For a squared error it leads to the targets, however large they are.
    """
    point = start.clone()
    with contextlib.suppress(Exception), torch.enable_grad():
        value, slope = _slope(loss_at, point)
        length = float(slope.double().square().sum())
        trial = value / length
        _, ahead = _slope(loss_at, point - trial * slope)
        bend = float((slope.double() * (slope - ahead).double()).sum()) / (trial * length)
        reached = point - slope / bend
        if 0 < bend < math.inf and _slope(loss_at, reached)[0] < value:
            return reached
    return point


def _slope(loss_at: Callable[[Tensor], Tensor], point: Tensor) -> tuple[float, Tensor]:
    moved = point.detach().requires_grad_()
    loss = loss_at(moved)
    (slope,) = torch.autograd.grad(loss, [moved])
    return float(loss.detach()), slope


def best_constant(loss_at: Callable[[Tensor], Tensor], output: Tensor) -> Reached:
    """The lowest loss of a prediction that is the same for every row."""
    if output.dim() == 0 or output.numel() > MOST_NUMEL:
        return Reached(math.nan, output)
    shape = (1, *output.shape[1:]) if output.dim() > 1 else (1,)
    # Two starts: a clamp has no slope at 0, and an output that exploded is a bad place to begin.
    middle = output.detach().float().reshape(len(output), *shape[1:]).mean(0, keepdim=True)
    starts = (torch.nan_to_num(middle, posinf=0.0, neginf=0.0), torch.zeros(shape, device=output.device))
    found = [
        reachable(lambda one: loss_at(one.expand(output.shape).to(output.dtype)), start) for start in starts
    ]
    return min(found, key=lambda one: one.loss if math.isfinite(one.loss) else math.inf)
