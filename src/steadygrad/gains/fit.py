"""A straight line through logarithms that a few odd points don't bend."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def growth_per_place(norms: Sequence[float]) -> float:
    """By what factor a number grows from one place to the one before it, fitted over all.

    The median of all slopes between two points of ``log(norm)`` (Theil and Sen), which a third of wild
    points can't move.

    Args:
        norms: in order, the last nearest to the loss.

    Returns:
        Growth from the end towards the beginning: above 1 the gradient explodes on its way back. 1 where
        fewer than two norms are finite and positive.

    Example:
        >>> round(growth_per_place([8.0, 4.0, 2.0, 1.0]), 6)
        2.0
    """
    places = np.array([i for i, norm in enumerate(norms) if math.isfinite(norm) and norm > 0], np.float64)
    if places.size < 2:
        return 1.0
    logs = np.log([norms[int(i)] for i in places])
    later, earlier = np.triu_indices(places.size, 1)[::-1]
    slopes = (logs[later] - logs[earlier]) / (places[later] - places[earlier])
    return float(np.exp(-np.median(slopes)))


def steepest_stretch(norms: Sequence[float]) -> tuple[int, int]:
    """The stretch over which the norm changes most, as positions of its ends, first before last."""
    logs = [math.log(norm) if math.isfinite(norm) and norm > 0 else math.nan for norm in norms]
    known = [i for i, value in enumerate(logs) if not math.isnan(value)]
    if not known:
        return 0, 0
    low = min(known, key=lambda i: logs[i])
    high = max(known, key=lambda i: logs[i])
    return min(low, high), max(low, high)
