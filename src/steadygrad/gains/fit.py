"""A straight line through logarithms that a few odd points don't bend, and the stretch where it is steepest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_MOST = 256
"""Points that are fitted: the number of pairs grows with their square."""

_PLATEAU = 0.03
"""Share of the whole change that an end of the stretch may give up: what changes no more is no part of it."""


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
    places = np.array([i for i, norm in enumerate(norms) if _usable(norm)], np.float64)
    if places.size < 2:
        return 1.0
    if places.size > _MOST:
        places = places[np.linspace(0, places.size - 1, _MOST).astype(np.int64)]
    logs = np.log([norms[int(i)] for i in places])
    later, earlier = np.triu_indices(places.size, 1)[::-1]
    slopes = (logs[later] - logs[earlier]) / (places[later] - places[earlier])
    return math.exp(min(700.0, max(-700.0, -float(np.median(slopes)))))


def steepest_stretch(norms: Sequence[float]) -> tuple[int, int]:
    """The stretch that carries the change, as positions of its ends, first before last.

    Between the smallest and the largest norm, without the flat parts at either end.

    Example:
        >>> steepest_stretch([1.0, 1.0, 1.0, 10.0, 100.0, 100.0])
        (2, 4)
    """
    known = {i: math.log(norm) for i, norm in enumerate(norms) if _usable(norm)}
    if not known:
        return 0, 0
    low, high = min(known, key=lambda i: known[i]), max(known, key=lambda i: known[i])
    give_up = _PLATEAU * (known[high] - known[low])
    first, last = min(low, high), max(low, high)
    inside = [i for i in known if first <= i <= last]
    flat_from_first = [i for i in inside if abs(known[i] - known[first]) <= give_up]
    flat_to_last = [i for i in inside if abs(known[i] - known[last]) <= give_up]
    start, end = max(flat_from_first), min(flat_to_last)
    return (start, end) if start < end else (first, last)


def _usable(norm: float) -> bool:
    return math.isfinite(norm) and norm > 0
