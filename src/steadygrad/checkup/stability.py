"""The learning rate against the limit that the curvature sets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.calling import LossFn
from steadygrad.checkup.sharpness import sharpness

_ADAMS = ("Adam", "AdamW", "NAdam", "RAdam")


@dataclass(frozen=True, slots=True)
class Limit:
    """Below which rate descent is stable, as far as the curvature of one batch tells.

    Attributes:
        lr: the limit.
        sharpness: largest curvature, seen through the optimizer's preconditioner.
        uncertainty: share by which the last iteration still changed it.
    """

    lr: float
    sharpness: float
    uncertainty: float

    def __str__(self) -> str:
        """The limit with its uncertainty."""
        return f"{self.lr:.2g} (+-{self.uncertainty:.0%})"


def limit(model: nn.Module, optimizer: Optimizer, batch: object, loss_fn: LossFn | None) -> Limit | None:
    """The stability limit of SGD or Adam; None for other optimizers, or without second derivatives.

    Args:
        model: left as it was.
        optimizer: its own; Adam must have made a few steps, so that its preconditioner exists.
        batch: what the model takes.
        loss_fn: as in `steadygrad.check`.
    """
    group = optimizer.param_groups[0]
    kind = type(optimizer).__name__
    if kind == "SGD":
        momentum = float(group.get("momentum", 0.0))
        bound, scales = 2.0 + 2.0 * momentum, None
    elif kind in _ADAMS and optimizer.state:
        beta = float(group["betas"][0])
        bound, scales = (2.0 + 2.0 * beta) / (1.0 - beta), _preconditioner(model, optimizer)
    else:
        return None
    found = sharpness(model, batch, loss_fn, scales)
    return None if found is None else Limit(bound / found.value, found.value, found.uncertainty)


def _preconditioner(model: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    groups = {id(param): group for group in optimizer.param_groups for param in group["params"]}
    scales = []
    for param in model.parameters():
        if not param.requires_grad:
            continue
        state = optimizer.state.get(param, {})
        if "exp_avg_sq" not in state:
            scales.append(torch.zeros_like(param))
            continue
        group = groups[id(param)]
        corrected = state["exp_avg_sq"] / (1.0 - group["betas"][1] ** float(state["step"]))
        scales.append((corrected.sqrt() + group["eps"]).rsqrt())
    return scales
