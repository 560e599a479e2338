"""Level, spread, slope and leaders of a stream of gradient norms.

Shape legend: P gradient tensors, T readings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from steadygrad.records import FloatArray, Reading

_MAD_TO_SIGMA = 1.4826
_LOG_MAX = 700.0  # exp() of more is Inf


def log_total_norm(reading: Reading) -> float | None:
    """Log of the total norm; None where it is zero, NaN, or holds an Inf.

    A total norm that overflowed although every single norm is finite is computed again.
    """
    total = reading.total_norm
    if 0.0 < total < math.inf:
        return math.log(total)
    if total != math.inf or not np.isfinite(reading.norms).all():
        return None
    norms = reading.norms.astype(np.float64)
    largest = float(norms.max(initial=0.0))
    if largest <= 0.0:
        return None
    return math.log(largest) + math.log(float(np.linalg.norm(norms / largest)))


def ratio(log_difference: float) -> float:
    """``exp`` that stays finite."""
    return math.exp(min(log_difference, _LOG_MAX))


def middle(values: Sequence[float]) -> float:
    """Median; of an even number the upper of the two, so that it is a value that occurred."""
    return sorted(values)[len(values) // 2]


def level_and_spread(log_norms: Sequence[float]) -> tuple[float, float]:
    """Median, and the standard deviation that the median absolute deviation stands for.

    Both hold against nearly half of the readings being outliers, which a mean doesn't.
    """
    level = middle(log_norms)
    return level, _MAD_TO_SIGMA * middle([abs(u - level) for u in log_norms])


def slope(values: Sequence[float]) -> float:
    """Rise from one value to the next, by least squares; 0 for a single value."""
    count = len(values)
    if count < 2:
        return 0.0
    center, mean = (count - 1) / 2, sum(values) / count
    covariance = sum((t - center) * (value - mean) for t, value in enumerate(values))
    return covariance * 12.0 / (count * (count * count - 1))


def growth_per_step(log_norms: Sequence[float]) -> float:
    """Factor by which the norm grows from one reading to the next.

    Example:
        >>> round(growth_per_step([math.log(3.0**t) for t in range(5)]), 6)
        3.0
    """
    return ratio(slope(log_norms))


def leaders(norms: FloatArray, history: Sequence[FloatArray]) -> tuple[list[int], FloatArray]:
    """Tensors that lead a growth, the first leader first, and every tensor's share of it.

    Of the tensors that hold at least 1 % of the squared norm, those that rose most above their own
    median come first; without a history those with the largest share. At most 8.

    Args:
        norms: gradient norms of the step in question ``[P]``, finite.
        history: norms of earlier readings ``[T]`` of ``[P]``; fewer where parameters joined later.

    Returns:
        Indices, and the share of the squared total norm ``[P]``.
    """
    scaled = norms.astype(np.float64) / (float(norms.max(initial=0.0)) or 1.0)
    share = scaled**2 / (float((scaled**2).sum()) or 1.0)
    score = share
    if history:
        size = min(norms.size, *(past.size for past in history))
        usual = np.median([past[:size].astype(np.float64) for past in history], axis=0)
        score = share.copy()
        score[:size] = np.inf  # from nothing to something is the largest rise
        with np.errstate(over="ignore"):  # a float64 may rise by more than it can tell
            np.divide(norms[:size], usual, out=score[:size], where=usual > 0.0)
    order = np.argsort(-np.where(share >= 0.01, score, 0.0), kind="stable")[:8]
    return [i for i in order.tolist() if share[i] >= 0.01], share
