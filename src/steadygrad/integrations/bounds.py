"""What a trainer's own clip will leave of a gradient, as `Monitor.clip_` wants to be told it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import is_
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


def norm_bound(max_norm: Any, norm_type: Any = 2.0) -> float | None:
    """Total L2 norm after a clip to ``max_norm``, at most; None where the clip says nothing about it."""
    if isinstance(max_norm, Tensor) and max_norm.device.type != "cpu":
        return None  # reading it would wait for the device
    try:
        bound, power = float(max_norm), float(norm_type)
    except (TypeError, ValueError):  # no clip, or one whose own error is the better one
        return None
    return bound if power == 2.0 and 0.0 < bound < math.inf else None


class Handed:
    """Which of an optimizer's parameters a clip is handed: worked out once, and again when either list changes.

    Args:
        optimizer: the optimizer.

    Attributes:
        optimizer: the same.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._given: list[Tensor] = []
        self._held = 0
        self._others: list[Tensor] = []
        self._some = False

    def has_some(self, given: Sequence[Tensor]) -> bool:
        """Whether any parameter of the optimizer is among these."""
        self._look(given)
        return self._some

    def is_whole(self, given: Sequence[Tensor]) -> bool:
        """Whether these are all parameters of the optimizer that have a gradient."""
        self._look(given)
        return all(param.grad is None for param in self._others)

    def _look(self, given: Sequence[Tensor]) -> None:
        groups = self.optimizer.param_groups
        held = sum(len(group["params"]) for group in groups)
        if held == self._held and len(given) == len(self._given) and all(map(is_, given, self._given)):
            return
        self._held, self._given = held, list(given)
        ids = set(map(id, given))
        self._others = [param for group in groups for param in group["params"] if id(param) not in ids]
        self._some = len(self._others) < held
