"""Signs that a run loses its footing, in plain floats: what `auto` looks at.

Two measures, both free of the loss's scale: how far a gradient norm stands above its recent history
(growth), and how far its step would carry the weights beside their own length (reach).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from steadygrad.policies.history import NormWindow

if TYPE_CHECKING:
    from collections.abc import Mapping

REACH = 3.0
"""Reach times depth that no healthy SGD step has; controls stay below 2.7, unstable starts 2 to 500."""
CALM = 0.1
"""Reach times depth below which an engaged run is calm; let go at 0.25, a bad start is lost after all."""
SLIP = 10.0
"""Growth times reach that is a slip; controls stay below 7.5, explosions pass 1000 within a few steps."""
SPIKE = 32.0
"""Growth that is a spike where reach says nothing: one of 32 doubles Adam's second moment."""

_WINDOW = 128
_LAST = 8
_MIN_HISTORY = 2
_TYPICAL_QUANTILE = 0.25
_LOW_QUANTILE = 0.05
_LOUDEST = math.log(10.0)


class Footing:
    """The recent norms, and the limits for the next one that follow from them.

    The typical norm is the lower quartile of the last 128: bad batches in up to two thirds of the
    steps leave it alone (they move a median when they are every second step), and a lasting rise of
    the level has at most 96 steps to wait until it is typical.
    """

    def __init__(self) -> None:
        """Start with no history."""
        self._window = NormWindow(_WINDOW)
        self._last = NormWindow(_LAST)

    def add(self, norm: float) -> None:
        """Take in the norm of one finite step, before any scaling; zero says nothing about size."""
        if norm > 0.0:
            self._window.add(norm)
            self._last.add(norm)

    def typical(self) -> float:
        """Lower quartile of the recent norms; infinite while there are too few to say."""
        if len(self._window) < _MIN_HISTORY:
            return math.inf
        return math.exp(self._window.quantile(_TYPICAL_QUANTILE))

    def spike_limit(self) -> float:
        """Norm above which the next step is a spike: far above the typical norm, and sudden.

        Sudden means that it is as far above the last 8. Norms of a recurrent network that breaks
        its symmetry rise tenfold within 16 steps, and all is well. The noisier the low norms are
        (a rare class, tiny batches), the farther up a spike begins, by tenfold at most.
        """
        if len(self._window) < _MIN_HISTORY:
            return math.inf
        typical = self._window.quantile(_TYPICAL_QUANTILE)
        noise = min(typical - self._window.quantile(_LOW_QUANTILE), _LOUDEST)
        return SPIKE * math.exp(max(typical, self._last.quantile(_TYPICAL_QUANTILE)) + noise)

    def slip_limit(self, span: float, depth: float) -> float:
        """Norm above which the next SGD step loses its footing.

        That is ``REACH * span / depth``, which needs no history and so protects the first step, or
        the ``n`` where ``n / typical * n / span = SLIP`` if it is smaller: a short step may be many
        times the typical one, a long step only a few times.

        Args:
            span: ``||w|| * (1 - mu) / lr``, the norm of a gradient whose step, momentum played out,
                is as long as the weights.
            depth: root of the number of layers through which a change of the weights compounds; below
                1 it is a network that can hardly run away, and so may slip more.
        """
        return min(REACH * span / depth, math.sqrt(SLIP / min(depth, 1.0) * span) * math.sqrt(self.typical()))

    def unrest_limit(self, span: float, depth: float) -> float:
        """Norm above which an SGD step shows that an engaged run is not calm yet."""
        return min(CALM * span / depth, self.slip_limit(span, depth))

    def state_dict(self) -> dict[str, Any]:
        """The norms held."""
        return {"window": self._window.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._window.load_state_dict(state["window"])
        self._last.load_state_dict(state["window"])
