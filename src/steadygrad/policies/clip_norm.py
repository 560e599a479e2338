"""`clip_norm`: a fixed bound on the norm of all gradients together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steadygrad.measure import Measurement
from steadygrad.policies.base import Policy, require_positive
from steadygrad.policies.history import Tally
from steadygrad.records import Incident, Reading


def clip_coef(total_norm: Tensor, max_norm: float) -> Tensor:
    """Factor that brings gradients down to ``max_norm``: ``min(1, max_norm / total_norm)``.

    Exactly 1 for every norm from 0, be it -0, up to and including ``max_norm`` as the norm's dtype can hold it.

    Args:
        total_norm: finite norm of the gradients, any shape.
        max_norm: largest norm to let through, above 0.

    Returns:
        Factors in (0, 1], shaped like ``total_norm``.
    """
    limits = torch.finfo(total_norm.dtype)
    largest = min(max(max_norm, limits.tiny), limits.max)
    # A tensor divided by a tensor: `number / tensor` takes a reciprocal first, which rounds twice.
    return torch.full_like(total_norm, largest).div_(total_norm.abs()).clamp_(limits.tiny, 1.0)


class ClipNorm(Policy):
    """Scale all gradients so that their total norm is at most a constant; see `clip_norm`."""

    def __init__(self, max_norm: float) -> None:
        self.max_norm = require_positive("clip_norm", "max_norm", max_norm)
        self.cap = self.max_norm
        self._tally = Tally()

    def scale(self, measurement: Measurement) -> Tensor:
        """One factor for all gradients, 0-d."""
        return clip_coef(measurement.total_norm, self.max_norm)

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Count the step; there is nothing else to learn."""
        if math.isfinite(reading.total_norm):
            self._tally.add(reading)
        return ()

    def explain(self) -> str:
        """How many steps were scaled."""
        return f"{self!r}: {self._tally}." if self._tally.seen else ""

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"tally": self._tally.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._tally.load_state_dict(state["tally"])

    def __repr__(self) -> str:
        """The call that makes this policy."""
        return f"clip_norm({self.max_norm!r})"


def clip_norm(max_norm: float) -> ClipNorm:
    """Bound the norm of all gradients together by a constant.

    The textbook clip: the direction stays, the length is cut. The right constant depends on the
    model, the loss reduction and the learning rate; `steady` finds it by itself.

        g <- g * min(1, max_norm / ||g||)

    Differs from ``torch.nn.utils.clip_grad_norm_``: the denominator has no 1e-6, so a gradient
    whose norm is exactly ``max_norm`` stays as it is and a tiny ``max_norm`` means what it says;
    steps with NaN or Inf never get here, so they can't spread to the other gradients.

    Args:
        max_norm: largest total norm to let through, in the units of the gradient.

    Returns:
        The policy.

    Raises:
        PolicyError: ``max_norm`` is not a finite number above 0.

    Example:
        >>> clip_norm(1.0)
        clip_norm(1.0)

    Source: Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063, algorithm 1.
    """
    return ClipNorm(max_norm)
