"""The largest curvature of the loss, by power iteration on Hessian-vector products.

Gradient descent with momentum ``b`` is stable while ``lr < (2 + 2 b) / sharpness`` (Cohen et al. 2021,
arXiv:2103.00065, section 2).
"""

from __future__ import annotations

import contextlib
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from steadygrad.calling import LossFn, call_model, loss_of
from steadygrad.preserve import preserved

ROUNDS = 12


class Sharpness(NamedTuple):
    """An estimate from below.

    Attributes:
        value: largest eigenvalue of the Hessian, as far as the iteration came.
        uncertainty: how much the last round still changed it, as a share.
    """

    value: float
    uncertainty: float


def sharpness(
    model: nn.Module, batch: object, loss_fn: LossFn | None, rounds: int = ROUNDS
) -> Sharpness | None:
    """Estimate the sharpness of the loss on one batch.

    Args:
        model: left as it was.
        batch: what it takes.
        loss_fn: as in `steadygrad.check`.
        rounds: power iterations, each about two backward passes.

    Returns:
        The estimate; None where the model has no second derivative that torch knows.
    """
    params = [param for param in model.parameters() if param.requires_grad]
    with contextlib.suppress(RuntimeError, NotImplementedError), preserved(model), torch.enable_grad():
        torch.manual_seed(0)
        loss = loss_of(call_model(model, batch), batch, loss_fn)
        grads: tuple[Tensor | None, ...] = torch.autograd.grad(
            loss, params, create_graph=True, allow_unused=True
        )
        pairs = [(grad, param) for grad, param in zip(grads, params, strict=True) if grad is not None]
        direction = [torch.randn_like(param) for _, param in pairs]
        value, change = 0.0, math.inf
        for _ in range(rounds):
            length = math.sqrt(sum(float(part.double().square().sum()) for part in direction))
            if not length > 0 or not math.isfinite(length):
                break
            unit = [part / length for part in direction]
            dot = torch.stack(
                [(grad * part).sum() for (grad, _), part in zip(pairs, unit, strict=True)]
            ).sum()
            products: tuple[Tensor | None, ...] = torch.autograd.grad(
                dot, [param for _, param in pairs], retain_graph=True, allow_unused=True
            )
            direction = [
                torch.zeros_like(u) if p is None else p.detach() for p, u in zip(products, unit, strict=True)
            ]
            found = sum(
                float((part * other).double().sum()) for part, other in zip(direction, unit, strict=True)
            )
            change = abs(found - value) / max(abs(found), 1e-30)
            value = found
        return Sharpness(value, change)
    return None
