"""`zclip`: clip only norms that stand out from the recent ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steadygrad.measure import Measurement
from steadygrad.policies.base import Policy, require_between, require_positive
from steadygrad.policies.history import NormWindow, Tally
from steadygrad.records import Incident, Reading

MIN_HISTORY = 5
"""Norms needed before a median and a spread mean anything."""

MIN_SPREAD = 0.1
"""Smallest standard deviation of ln(norm) believed: 10 %, so that a flat stretch isn't a trap."""

_MAD_TO_STD = 1.4826


class ZClip(Policy):
    """Pull back norms whose z-score among the recent ones is too high; see `zclip`."""

    def __init__(self, z_threshold: float = 2.5, alpha: float = 0.97) -> None:
        self.z_threshold = require_positive("zclip", "z_threshold", z_threshold)
        self.alpha = require_between("zclip", "alpha", alpha, 0.7, 0.999)
        # A moving average with this alpha has the mean age of a window of that many values.
        self._norms = NormWindow(round((1.0 + self.alpha) / (1.0 - self.alpha)))
        self._tally = Tally()
        self._median = 0.0
        self._margin = 0.0

    def scale(self, measurement: Measurement) -> Tensor | None:
        """One factor for all gradients, 0-d; None while fewer than `MIN_HISTORY` norms are known."""
        if self.cap is None:
            return None
        log_norm = measurement.total_norm.log()
        # Where the norm doesn't stand out, `excess` is the margin and the cap at least the norm.
        excess = (log_norm - self._median).clamp_(min=self._margin)
        log_cap = self._margin**2 / excess + self._median
        smallest = math.log(torch.finfo(log_norm.dtype).tiny)
        return (log_cap - log_norm).clamp_(smallest, 0.0).exp_()

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
        """How many steps were scaled, and which norm stands out now."""
        if self.cap is None:
            return ""
        median = math.exp(self._median)
        return f"{self!r}: {self._tally}; the cap is now {self.cap:.3g}, the median norm {median:.3g}."

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
        return f"zclip({self.z_threshold!r}, alpha={self.alpha!r})"

    def _set_cap(self) -> None:
        if len(self._norms) < MIN_HISTORY:
            self.cap = None
            return
        self._median = self._norms.median()
        self._margin = self.z_threshold * max(_MAD_TO_STD * self._norms.mad(), MIN_SPREAD)
        self.cap = _exp(self._median + self._margin)


def zclip(z_threshold: float = 2.5, alpha: float = 0.97) -> ZClip:
    """Clip only norms that stand out from the recent ones, the more the further they do.

    Most steps stay untouched. A norm with z-score z above the threshold is brought down to the
    z-score ``z_threshold**2 / z``: the wilder it is, the closer to the middle it lands.

        z = (ln ||g|| - median) / s;  s = max(1.4826 MAD, 0.1);  over the last n values of ln ||g||
        cap = exp(median + s z_threshold**2 / z)  where z > z_threshold

    Differs from the paper: mean and variance are replaced by median and MAD of the logarithms of
    raw norms over the last ``n = (1 + alpha) / (1 - alpha)`` steps, the window that forgets as
    fast as the paper's average. Fed with clipped norms, that average never leaves its level again;
    one NaN switches it off, and one spike in its warm-up hides the next ones. Here a lasting shift
    is followed after n / 2 steps (33), and protection begins after 5 norms, not 25. There is no
    constant bound beside it: use ``chain(zclip(), clip_norm(1.0))``.

    Args:
        z_threshold: z-score above which a norm stands out; 2.5 as in the paper.
        alpha: memory, as the smoothing factor of the paper's average, 0.7 to 0.999; 0.97 is n = 66.

    Returns:
        The policy.

    Raises:
        PolicyError: an argument is out of its range.

    Example:
        >>> zclip()
        zclip(2.5, alpha=0.97)

    Source: Kumar, Owen, Chowdhury and Güra 2025, arXiv 2504.02507.
    """
    return ZClip(z_threshold, alpha)


def _exp(value: float) -> float:
    """Exponential that ends at Inf instead of raising."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
