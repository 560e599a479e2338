"""Take back a whole step of an optimizer that moves the weights while it evaluates.

LBFGS calls its closure many times in one step and moves the weights between two calls. When a later
evaluation turns out non-finite, withholding gradients is too late: weights and curvature memory have
moved. So they are remembered at the first evaluation and put back.

The cost is one copy of the weights and of the few state tensors that change in place (with LBFGS the
last direction and the last gradient: three times the parameters in all, for the length of a step), not
of LBFGS's history: its tensors are only ever added and dropped, so a copy of the lists is enough.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

# Lists of LBFGS whose tensors are never changed once they are in: up to 2 * history_size times the
# parameters, a hundred copies of the model that need not be made at each step.
_HISTORY = ("old_dirs", "old_stps", "ro")


def moves_while_evaluating(optimizer: Optimizer) -> bool:
    """Whether a step of this optimizer evaluates its closure several times (LBFGS and its kin)."""
    return descends(optimizer.param_groups)


def descends(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a step of an optimizer with these parameter groups is a whole descent."""
    return any("max_eval" in group or "line_search_fn" in group for group in groups)


def undo_of(optimizer: Optimizer | None) -> StepUndo | None:
    """What takes back its steps; None for one that moves the weights when it has evaluated."""
    return StepUndo(optimizer) if optimizer is not None and moves_while_evaluating(optimizer) else None


class StepUndo:
    """Weights and state of one optimizer as they were before the step under way.

    Args:
        optimizer: held weakly.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._weights: list[tuple[Tensor, Tensor]] = []
        self._state: dict[Tensor, dict[str, Any]] = {}

    def remember(self) -> None:
        """Copy weights and state; call before anything has moved."""
        optimizer = self._optimizer()
        if optimizer is None:
            return
        params = [param for group in optimizer.param_groups for param in group["params"]]
        self._weights = [(param, param.detach().clone()) for param in params]
        listed = _HISTORY if type(optimizer) is LBFGS else ()
        self._state = {
            param: {key: list(one) if key in listed else copy.deepcopy(one) for key, one in state.items()}
            for param, state in optimizer.state.items()
        }

    def take_back(self) -> None:
        """Put weights and state back as `remember` found them."""
        optimizer = self._optimizer()
        if optimizer is None or not self._weights:
            return
        with torch.no_grad():
            for param, before in self._weights:
                param.copy_(before)
        optimizer.state.clear()
        optimizer.state.update(self._state)
        self.forget()

    def forget(self) -> None:
        """Let the copies go."""
        self._weights = []
        self._state = {}
