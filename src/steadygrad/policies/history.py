"""What a policy remembers of the steps so far: a bounded window of norms, and a count."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steadygrad.policies.base import require_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from steadygrad.records import Reading

NORM_FLOOR = 1e-38
"""Norms below this count as this: about the smallest normal float32, so that ln(0) can't occur."""


class NormWindow:
    """The newest finite norms, as natural logarithms, with their order statistics.

    The logarithm makes every statistic scale-free: a loss multiplied by s shifts them all by
    ln(s). Medians and quantiles of a bounded window can't be moved by a few wild values, and have
    forgotten the past entirely after ``size`` norms.

    Adding costs a bisection and a short move of memory, a quantile is a look-up.

    Args:
        size: number of norms kept.

    Raises:
        PolicyError: ``size`` is not a whole number of at least 1.

    Example:
        >>> window = NormWindow(3)
        >>> for norm in (9.0, 1.0, float("nan"), 2.0, 4.0):
        ...     window.add(norm)
        >>> [round(math.exp(value), 6) for value in window]
        [1.0, 2.0, 4.0]
        >>> round(math.exp(window.median()), 6)
        2.0
    """

    def __init__(self, size: int) -> None:
        """Start empty."""
        self.size = require_count("NormWindow", "size", size)
        self._newest: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, norm: float) -> None:
        """Take in one norm; NaN and Inf are ignored, zero counts as `NORM_FLOOR`."""
        if math.isfinite(norm):
            self._push(math.log(max(norm, NORM_FLOOR)))

    def __len__(self) -> int:
        """Number of norms held, at most ``size``."""
        return len(self._sorted)

    def __iter__(self) -> Iterator[float]:
        """The ln(norm) held, oldest first."""
        return iter(self._newest)

    def median(self) -> float:
        """Median of ln(norm)."""
        return self.quantile(0.5)

    def quantile(self, q: float) -> float:
        """Quantile of ln(norm), linear between neighbours as in ``numpy.quantile``.

        Args:
            q: share of the norms that lie below, from 0 to 1.
        """
        return _quantile(self._filled(), q)

    def smallest(self, place: int) -> float:
        """The ln(norm) that ``place`` others lie below."""
        return self._sorted[place]

    def max(self) -> float:
        """Largest ln(norm)."""
        return self._filled()[-1]

    def mad(self) -> float:
        """Median absolute deviation of ln(norm) from its median, not rescaled.

        Multiply by 1.4826 to estimate the standard deviation of a normal distribution.
        """
        center = self.median()
        return _quantile(sorted([abs(value - center) for value in self._sorted]), 0.5)

    def quantiles(self, *shares: float) -> list[float]:
        """Several quantiles at once; see `quantile`."""
        ordered = self._filled()
        return [_quantile(ordered, share) for share in shares]

    def state_dict(self) -> dict[str, Any]:
        """The ln(norm) held, oldest first."""
        return {"log_norms": list(self._newest)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; a smaller window keeps the newest."""
        self._newest.clear()
        self._sorted.clear()
        for value in state["log_norms"]:
            if math.isfinite(value):
                self._push(float(value))

    def _push(self, value: float) -> None:
        if len(self._newest) == self.size:
            del self._sorted[bisect_left(self._sorted, self._newest.popleft())]
        self._newest.append(value)
        insort(self._sorted, value)

    def _filled(self) -> list[float]:
        if not self._sorted:
            raise ValueError("NormWindow is empty: a statistic needs at least one norm; check len() first.")
        return self._sorted


@dataclass(slots=True)
class Tally:
    """How many steps a policy has seen, and how many of them were scaled.

    Attributes:
        seen: finite steps.
        scaled: those in which some gradient was scaled, by whichever policy.
    """

    seen: int = 0
    scaled: int = 0

    def add(self, reading: Reading) -> None:
        """Count one step."""
        self.seen += 1
        self.scaled += reading.clip_coef < 1.0

    def __str__(self) -> str:
        """Like ``scaled 3 of 100 steps``."""
        return f"scaled {self.scaled} of {self.seen} steps"

    def state_dict(self) -> dict[str, Any]:
        """Both counts."""
        return {"seen": self.seen, "scaled": self.scaled}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.seen, self.scaled = int(state["seen"]), int(state["scaled"])


def _quantile(ordered: list[float], q: float) -> float:
    position = q * (len(ordered) - 1)
    below = int(position)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    return low + (high - low) * (position - below)
