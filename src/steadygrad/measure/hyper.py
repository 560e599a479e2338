"""What the host knows of an optimizer without asking the device: rate, momentum, kind."""

from __future__ import annotations

from collections.abc import Mapping
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
