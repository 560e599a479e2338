"""One number of every rank, in no more columns than a picture shows.

Shape legend: T steps, C columns, n ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadygrad.report.page.data.buckets import Float64Array
from steadygrad.report.page.data.course import MOST_COLUMNS
from steadygrad.report.ranks import Skew

MOST_LINES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """What the picture draws.

    Attributes:
        steps: of each column its first step ``[C]``.
        low: smallest finite value of the ranks ``[C]``.
        high: largest ``[C]``.
        middle: median ``[C]``.
        lines: by rank, those that stray the farthest from the median, the farthest first; of several steps in a
            column the value that strays the most ``[C]``.
        bad: by rank, steps at which its value was no finite number.
    """

    steps: Float64Array
    low: Float64Array
    high: Float64Array
    middle: Float64Array
    lines: dict[int, Float64Array]
    bad: dict[int, Float64Array]


def spread(found: Skew) -> Spread:
    """Prepare the picture; a value that strays at one step alone stays in it."""
    finite = np.where(np.isfinite(found.values), found.values, np.nan)
    middle = found.typical()
    with np.errstate(divide="ignore", invalid="ignore"):
        strays = np.abs(np.log(np.abs(finite) / np.abs(middle)[:, None]))
    strays = np.where(np.isfinite(strays), strays, -1.0)
    per = -(-len(found.steps) // MOST_COLUMNS)
    starts = np.arange(0, len(found.steps), per)
    farthest = np.argsort(-strays.max(axis=0))[:MOST_LINES]
    lines = {found.ranks[i]: _farthest(finite[:, i], strays[:, i], starts) for i in sorted(farthest)}
    bad = {
        rank: found.steps[~np.isfinite(column)].astype(np.float64)
        for rank, column in zip(found.ranks, found.values.T, strict=True)
    }
    return Spread(
        found.steps[starts].astype(np.float64),
        np.fmin.reduceat(np.fmin.reduce(finite, axis=1), starts),
        np.fmax.reduceat(np.fmax.reduce(finite, axis=1), starts),
        middle[starts],
        lines,
        {rank: steps for rank, steps in bad.items() if steps.size},
    )


def _farthest(values: Float64Array, strays: Float64Array, starts: NDArray[np.integer[Any]]) -> Float64Array:
    ends = np.append(starts[1:], len(values))
    return np.array([values[a + int(np.argmax(strays[a:b]))] for a, b in zip(starts, ends, strict=True)])
