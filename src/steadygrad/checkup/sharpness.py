"""The largest curvature of the loss, by power iteration on Hessian-vector products.

Gradient descent with momentum ``b`` is stable while ``lr * sharpness < 2 + 2 b`` (Cohen et al. 2021,
arXiv:2103.00065, section 2). For Adam the same holds of the curvature seen through its preconditioner,
``D^(1/2) H D^(1/2)`` with ``D = 1 / (sqrt(v) + eps)``, and the bound ``(2 + 2 b) / (1 - b)``, 38 for b = 0.9
(Cohen et al. 2022, arXiv:2207.14484, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from steadygrad.calling import LossFn, call_model, loss_of
from steadygrad.preserve import preserved

ROUNDS = 20
SETTLED = 0.02
"""Change of a round, as a share, at which the iteration ends."""


class Sharpness(NamedTuple):
    """An estimate from below.

    Attributes:
        value: largest eigenvalue of the Hessian, as far as the iteration came.
        uncertainty: how much the last round still changed it, as a share.
    """

    value: float
    uncertainty: float


def sharpness(
    model: nn.Module,
    batch: object,
    loss_fn: LossFn | None,
    preconditioner: Sequence[Tensor] | None = None,
    rounds: int = ROUNDS,
) -> Sharpness | None:
    """Estimate the sharpness of the loss on one batch.

    Args:
        model: left as it was.
        batch: what it takes.
        loss_fn: as in `steadygrad.check`.
        preconditioner: ``D^(1/2)`` for each parameter that requires a gradient; None is plain descent.
        rounds: most power iterations, each about two backward passes.

    Returns:
        The estimate; None where the model has no second derivative that torch knows.
    """
    params = [param for param in model.parameters() if param.requires_grad]
    scales = list(preconditioner or [torch.ones_like(param) for param in params])
    with preserved(model, loss_fn), torch.enable_grad():
        try:
            loss = loss_of(call_model(model, batch), batch, loss_fn)
            found: tuple[Tensor | None, ...] = torch.autograd.grad(
                loss, params, create_graph=True, allow_unused=True
            )
            used = {i: grad for i, grad in enumerate(found) if grad is not None and grad.requires_grad}
            return _iterate(list(used.values()), [params[i] for i in used], [scales[i] for i in used], rounds)
        except (RuntimeError, NotImplementedError):
            return None


def _iterate(
    grads: Sequence[Tensor], params: Sequence[Tensor], scales: Sequence[Tensor], rounds: int
) -> Sharpness | None:
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(param.shape, generator=generator).to(param) for param in params]
    value, change = 0.0, math.inf
    for _ in range(rounds):
        length = math.sqrt(sum(float(part.double().square().sum()) for part in direction))
        if not 0 < length < math.inf:
            break
        unit = [part / length for part in direction]
        dot = torch.stack([(g * s * u).sum() for g, s, u in zip(grads, scales, unit, strict=True)]).sum()
        products: tuple[Tensor | None, ...] = torch.autograd.grad(
            dot, params, retain_graph=True, allow_unused=True
        )
        direction = [
            torch.zeros_like(u) if p is None else p.detach() * s
            for p, s, u in zip(products, scales, unit, strict=True)
        ]
        found = sum(float((part * u).double().sum()) for part, u in zip(direction, unit, strict=True))
        change = abs(found - value) / max(abs(found), 1e-30)
        value = found
        if change < SETTLED:
            break
    return Sharpness(value, change) if math.isfinite(value) and value > 0 else None
