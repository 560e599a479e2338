"""What the host knows of an optimizer without asking the device: rate, momentum, kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["sgd", "adaptive", "other"]


@dataclass(frozen=True, slots=True)
class GroupHyper:
    """One parameter group's numbers.

    Attributes:
        lr: learning rate as the schedule set it.
        momentum: heavy-ball momentum, 0 without; only meaningful for ``kind == "sgd"``.
        kind: ``sgd`` (the update is proportional to the gradient), ``adaptive`` (the update is
            normalised, about ``lr`` for each element whatever the gradient's size: Adam, AdamW,
            RMSprop, Adagrad, Lion) or ``other`` (unknown, LBFGS).
    """

    lr: float
    momentum: float = 0.0
    kind: Kind = "sgd"


_ADAPTIVE_KEYS = ("betas", "alpha", "initial_accumulator_value", "beta2_decay", "etas")


def group_kind(group: Mapping[str, Any]) -> Kind:
    """Tell from a parameter group's keys how its update depends on the gradient's size."""
    if any(key in group for key in _ADAPTIVE_KEYS):
        return "adaptive"
    if "history_size" in group or "lr" not in group:
        return "other"
    return "sgd" if "momentum" in group or "nesterov" in group else "other"


def group_hyper(group: Mapping[str, Any]) -> GroupHyper:
    """Read one parameter group; a learning rate kept as a CPU tensor is read, others count as 0."""
    lr = group.get("lr", 0.0)
    if not isinstance(lr, int | float):
        lr = float(lr) if getattr(lr, "device", None) is not None and lr.device.type == "cpu" else 0.0
    return GroupHyper(float(lr), float(group.get("momentum") or 0.0), group_kind(group))
