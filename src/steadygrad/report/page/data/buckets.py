"""Steps put into at most so many columns of equal width.

Shape legend: T rows of the run, C columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygrad.runfile import Run

IntArray = NDArray[np.int64]
Float64Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Columns of equal width over the steps of a run.

    Attributes:
        start: first step.
        stop: step behind the last.
        count: C, at least 1; as many as there are steps where they are few.

    Example:
        >>> Buckets(0, 100, 10).place(np.array([0, 9, 10, 99])).tolist()
        [0, 0, 1, 9]
    """

    start: float
    stop: float
    count: int

    @classmethod
    def over(cls, start: float, stop: float, most: int) -> Buckets:
        """Columns from ``start`` up to ``stop``, ``most`` at most, and wide enough for float64 to tell them apart."""
        stop = max(stop, start + 1.0, float(np.nextafter(start, np.inf)))
        return cls(start, stop, int(max(1.0, min(stop - start, most))))

    @property
    def width(self) -> float:
        """Steps a column stands for."""
        return (self.stop - self.start) / self.count

    @property
    def edges(self) -> Float64Array:
        """Borders of the columns ``[C + 1]``."""
        return np.linspace(self.start, self.stop, self.count + 1)

    @property
    def middles(self) -> Float64Array:
        """Where a column is drawn ``[C]``: on its step where it is one step, else in its middle."""
        return self.edges[:-1] + (self.width - 1) / 2

    def ends(self, steps: IntArray, resolution: IntArray) -> IntArray:
        """Column of the last step of each row ``[T]``."""
        return self.place(steps.astype(np.float64) + (resolution.astype(np.float64) - 1.0))

    def place(self, steps: IntArray | Float64Array) -> IntArray:
        """Column of each step ``[T]``; steps outside go to the nearest."""
        at = np.floor((steps.astype(np.float64) - self.start) / self.width)
        return np.clip(at, 0, self.count - 1).astype(np.int64)


def buckets(runs: tuple[Run, ...], most: int) -> Buckets:
    """Columns that hold every step of one run, or of several.

    Args:
        runs: the runs.
        most: columns at most.

    Returns:
        The columns; one empty one where no step was recorded.
    """
    heard = [run for run in runs if run.steps.size]
    if not heard:
        return Buckets(0.0, 1.0, 1)
    start = min(float(run.steps.min()) for run in heard)
    stop = max(float((run.steps + run.resolution.astype(np.float64)).max()) for run in heard)
    return Buckets.over(start, stop, most)


def spread(columns: IntArray, ends: IntArray, count: int) -> IntArray:
    """For every column, the row that fills it where none begins in it: a coarse row spans several.

    Args:
        columns: column in which each row begins ``[T]``.
        ends: column in which each row ends ``[T]``.
        count: C.

    Returns:
        For each column the column to copy from ``[C]``; itself where a row begins in it, -1 where nothing is known.
    """
    begins = np.zeros(count, np.bool_)
    begins[columns] = True
    source = np.maximum.accumulate(np.where(begins, np.arange(count), -1))
    reach = np.full(count, -1, np.int64)
    np.maximum.at(reach, columns, ends)
    known = source >= 0
    covered = known & (np.arange(count) <= np.where(known, reach[source], -1))
    return np.where(covered, source, -1)
