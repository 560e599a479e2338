"""What the host knows of an optimizer without asking the device: rate, momentum, kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Kind = Literal["sgd", "adaptive", "other"]


@dataclass(frozen=True, slots=True)
class GroupHyper:
    """One parameter group's numbers.

    Attributes:
        lr: learning rate as the schedule set it.
        momentum: heavy-ball momentum, 0 without; only meaningful for ``kind == "sgd"``.
        kind: ``sgd`` (the update is proportional to the gradient), ``adaptive`` (the update is
            normalised, about ``lr`` for each element whatever the gradient's size: Adam, AdamW,
            RMSprop, Adagrad, Lion) or ``other`` (unknown, averaged or normalised as a whole: LBFGS,
            ASGD, Muon).
        dampening: share of a new gradient that doesn't enter the momentum; 0 without momentum.
    """

    lr: float
    momentum: float = 0.0
    kind: Kind = "sgd"
    dampening: float = 0.0


_OTHER_KEYS = ("history_size", "ns_steps", "lambd", "t0")
_ADAPTIVE_KEYS = ("betas", "alpha", "initial_accumulator_value", "beta2_decay", "etas")
_SGD_KEYS = ("lr", "momentum", "nesterov", "dampening")


def group_kind(group: Mapping[str, Any]) -> Kind:
    """Tell from a parameter group's keys how its update depends on the gradient's size.

    Only keys that belong to one family decide: ``momentum`` alone is also Muon's, ``alpha`` also
    ASGD's. Whatever isn't recognised is ``other``.
    """
    if any(key in group for key in _OTHER_KEYS):
        return "other"
    if any(key in group for key in _ADAPTIVE_KEYS):
        return "adaptive"
    return "sgd" if all(key in group for key in _SGD_KEYS) else "other"


def group_hyper(group: Mapping[str, Any]) -> GroupHyper:
    """Read one parameter group; a learning rate kept as a CPU tensor is read, others count as 0."""
    momentum = _number(group.get("momentum"))
    # Without momentum torch's SGD has no buffer, and doesn't look at the dampening.
    dampening = _number(group.get("dampening")) if momentum else 0.0
    return GroupHyper(_number(group.get("lr")), momentum, group_kind(group), dampening)


def _number(value: object) -> float:
    """A host number; tensors of another device, and what is missing, count as 0."""
    if isinstance(value, Tensor):
        return float(value) if value.device.type == "cpu" else 0.0
    return float(value) if isinstance(value, int | float) else 0.0


def step_bound(groups: Sequence[Mapping[str, Any]]) -> float | None:
    r"""Largest step of one element, in learning rates, whatever the gradients have been.

    Adam and AdamW: ``|m| / sqrt(v) <= (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2))`` by Cauchy and Schwarz, where
    ``b1^2 < b2``. RMSprop, not centred: ``1 / sqrt(1 - alpha)``, summed up by its momentum. Others have no
    bound, or none that is known here.

    Args:
        groups: the optimizer's parameter groups.

    Returns:
        The largest of the groups' bounds; None where one has none.

    Example:
        >>> round(step_bound([{"betas": (0.9, 0.999), "amsgrad": False, "capturable": False}]), 2)
        7.27
    """
    bounds = [_bound(group) for group in groups]
    return max(bounds) if bounds and all(map(math.isfinite, bounds)) else None


def heavy_ball(groups: Sequence[Mapping[str, Any]]) -> float | None:
    """The largest momentum of SGD's groups, for a bound on its buffers; None without any, or for other optimizers.

    Example:
        >>> heavy_ball([{"lr": 0.1, "momentum": 0.9, "nesterov": False, "dampening": 0}])
        0.9
    """
    hypers = [group_hyper(group) for group in groups]
    if not hypers or any(one.kind != "sgd" or not 0.0 <= one.momentum < 1.0 for one in hypers):
        return None
    return max(one.momentum for one in hypers) or None


def _bound(group: Mapping[str, Any]) -> float:
    if "capturable" not in group:  # torch's own have it; AdaBelief has Adam's other keys, and no bound
        return math.inf
    if "amsgrad" in group and "betas" in group:
        first, second = map(_number, group["betas"])
        if not (0.0 <= first < 1.0 and first * first < second < 1.0):
            return math.inf
        return max(1.0, (1.0 - first) / math.sqrt((1.0 - second) * (1.0 - first * first / second)))
    if "centered" in group and not group["centered"]:
        alpha, momentum = _number(group.get("alpha")), _number(group.get("momentum"))
        if 0.0 <= alpha < 1.0 and 0.0 <= momentum < 1.0:
            return 1.0 / math.sqrt(1.0 - alpha) / (1.0 - momentum)
    return math.inf
