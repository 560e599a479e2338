"""A long series in few columns: the smallest and the largest of each, so that a spike of one step survives.

Shape legend: T rows of the run, C columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steadygrad.records import BoolArray
from steadygrad.report.page.data.buckets import Buckets, Float64Array, IntArray, spread


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """One series, column by column; NaN where a column has no finite value.

    Attributes:
        low: smallest finite value ``[C]``.
        middle: mean of the finite values ``[C]``.
        high: largest finite value ``[C]``.
    """

    low: Float64Array
    middle: Float64Array
    high: Float64Array

    @property
    def finite(self) -> bool:
        """Whether there is anything to draw."""
        return bool(np.isfinite(self.high).any())


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Where the rows of one optimizer go.

    Attributes:
        columns: column in which each row begins ``[T]``.
        ends: column in which it ends ``[T]``.
        count: C.
    """

    columns: IntArray
    ends: IntArray
    count: int

    @classmethod
    def of(cls, buckets: Buckets, steps: IntArray, resolution: IntArray) -> Rows:
        """Place rows."""
        return cls(buckets.place(steps), buckets.ends(steps, resolution), buckets.count)

    def envelope(self, low: Float64Array, middle: Float64Array, high: Float64Array) -> Envelope:
        """Smallest, mean and largest of each column; all three the same array for a plain series ``[T]``."""
        smallest, largest = np.full(self.count, np.inf), np.full(self.count, -np.inf)
        good = np.isfinite(low) & np.isfinite(high)
        np.minimum.at(smallest, self.columns[good], low[good])
        np.maximum.at(largest, self.columns[good], high[good])
        return Envelope(
            self._filled(np.where(np.isinf(smallest), np.nan, smallest)),
            self._filled(self._mean(middle)),
            self._filled(np.where(np.isinf(largest), np.nan, largest)),
        )

    def any(self, rows: BoolArray) -> BoolArray:
        """Which columns hold one of these rows ``[C]``."""
        hit = np.zeros(self.count, np.bool_)
        hit[self.columns[rows]] = True
        wide = rows & (self.ends > self.columns)
        for first, last in zip(self.columns[wide].tolist(), self.ends[wide].tolist(), strict=True):
            hit[first : last + 1] = True
        return hit

    def _mean(self, values: Float64Array) -> Float64Array:
        good = np.isfinite(values)
        number = np.bincount(self.columns[good], minlength=self.count)
        # Each is divided before it is added: the sum of two finite numbers may not be finite. Rounded up, the mean of
        # the largest there are may not be either.
        parts = values[good] / number[self.columns[good]]
        total = np.bincount(self.columns[good], parts, self.count)
        most = np.finfo(np.float64).max
        return np.where(number > 0, np.clip(total, -most, most), np.nan)

    def _filled(self, values: Float64Array) -> Float64Array:
        source = spread(self.columns, self.ends, self.count)
        return np.where(source >= 0, values[np.maximum(source, 0)], np.nan)


def stretches(hit: BoolArray) -> list[tuple[int, int]]:
    """Columns in a row that are hit, as (first, behind the last).

    Example:
        >>> stretches(np.array([True, True, False, True]))
        [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(hit.astype(np.int8), prepend=0, append=0))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
