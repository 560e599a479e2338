"""`autoclip`: clip to a percentile of the norms seen lately."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from steadygrad.measure import Measurement
from steadygrad.policies.base import Policy, require_between, require_count
from steadygrad.policies.clip_norm import clip_coef
from steadygrad.policies.history import NormWindow, Tally
from steadygrad.records import Incident, Reading


class AutoClip(Policy):
    """Clip the total norm to a percentile of its recent values; see `autoclip`."""

    always_on: ClassVar[bool] = True

    def __init__(self, percentile: float = 10.0, window: int = 64) -> None:
        self.percentile = require_between("autoclip", "percentile", percentile, 0.0, 100.0)
        self.window = require_count("autoclip", "window", window)
        self._norms = NormWindow(self.window)
        self._tally = Tally()

    def scale(self, measurement: Measurement) -> Tensor | None:
        """One factor for all gradients, 0-d; None before the first norm is known."""
        return None if self.cap is None else clip_coef(measurement.total_norm, self.cap)

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Take in the raw norm; a step without any gradient says nothing about its size."""
        if not math.isfinite(reading.total_norm):
            return ()
        self._tally.add(reading)
        if reading.total_norm > 0.0:
            self._norms.add(reading.total_norm)
            self._set_cap()
        return ()

    def explain(self) -> str:
        """How many steps were scaled, and to which norm the next one will be."""
        if self.cap is None:
            return ""
        return f"{self!r}: {self._tally}; the cap is now {self.cap:.3g}, from {len(self._norms)} norms."

    def state_dict(self) -> dict[str, Any]:
        """The window and the counts."""
        return {"norms": self._norms.state_dict(), "tally": self._tally.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._norms.load_state_dict(state["norms"])
        self._tally.load_state_dict(state["tally"])
        self._set_cap()

    def __repr__(self) -> str:
        """The call that makes this policy."""
        return f"autoclip({self.percentile!r}, window={self.window!r})"

    def _set_cap(self) -> None:
        self.cap = math.exp(self._norms.quantile(self.percentile / 100.0)) if len(self._norms) else None


def autoclip(percentile: float = 10.0, window: int = 64) -> AutoClip:
    """Clip to a percentile of the norms seen lately.

    With the paper's 10th percentile nine steps in ten are scaled: close to normalised gradient
    descent, with a length that follows the norms down as the training settles.

        cap = percentile of ||g|| over the last ``window`` steps;  g <- g * min(1, cap / ||g||)

    Differs from the paper: the history is a window instead of the whole run, so memory is bounded,
    and a lasting rise, which a low percentile notices last, is followed after at most ``window``
    steps (58 by default). A NaN never enters it: in the reference code one makes every later
    gradient NaN. The current norm joins after its step, so that the host needn't wait for it; the
    first step is not scaled. Steps whose gradients are all zero are not counted.

    Args:
        percentile: share of recent norms to let through whole, 0 to 100; 10 as in the paper.
        window: number of norms remembered; 64 follows any lasting change within 64 steps.

    Returns:
        The policy.

    Raises:
        PolicyError: an argument is out of its range.

    Example:
        >>> autoclip(25)
        autoclip(25.0, window=64)

    Source: Seetharaman, Wichern, Pardo and Le Roux 2020, arXiv 2007.14469.
    """
    return AutoClip(percentile, window)
