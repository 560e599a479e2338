"""Signs that a run loses its footing, in plain floats: what `auto` looks at.

Two measures, both free of the loss's scale: how far a norm stands above its recent history, and how far
the step would carry the weights, momentum included, beside their own length.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from steadygrad.policies.history import NormWindow

if TYPE_CHECKING:
    from collections.abc import Mapping

REACH = 8.0
"""Share of the weights' own norm that no single step may move, whatever came before."""
SLIP = 5.0
"""Growth times reach above which an SGD step has lost its footing."""
SPIKE = 20.0
"""Factor over the lower quartile of recent norms that is a spike where reach says nothing (Adam)."""

_WINDOW = 128
_LAST = 8
_MIN_HISTORY = 2
HYST = 8.0
_QUARTILE = 0.25
_SUDDEN = 10.0


class Footing:
    """The recent norms, and the limits that follow from them for the next step.

    The typical norm is the lower quartile of the last 128: outliers in up to two thirds of the steps don't move
    it, and a lasting shift of the level fills it within 96 steps.
    """

    def __init__(self) -> None:
        self._window = NormWindow(_WINDOW)
        self._last = NormWindow(_LAST)

    def add(self, norm: float) -> None:
        """Take in the norm of one finite step, before any scaling."""
        self._window.add(norm)
        self._last.add(norm)

    def typical(self) -> float:
        """Lower quartile of the recent norms; infinite while there are too few to say."""
        if len(self._window) < _MIN_HISTORY:
            return math.inf
        return math.exp(self._window.quantile(_QUARTILE))

    def spike_limit(self) -> float:
        """Norm above which the next step is a spike: far above the window, and sudden."""
        if len(self._window) < _MIN_HISTORY:
            return math.inf
        return max(SPIKE * self.typical(), _SUDDEN * math.exp(self._last.quantile(_QUARTILE)))

    def slip_limit(self, span: float, depth: int) -> float:
        """Norm above which the next SGD step has lost its footing.

        Args:
            span: ``||w|| (1 - mu) / lr``, the norm whose step, played out, is as long as the weights.
            depth: matrices.
        """
        limit = REACH / depth * span
        typical = self.typical()
        if typical < math.inf:
            limit = min(limit, math.sqrt(SLIP * typical * span))
        return limit

    def state_dict(self) -> dict[str, Any]:
        """The norms held."""
        return {"window": self._window.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._window.load_state_dict(state["window"])
        self._last.load_state_dict(state["window"])
