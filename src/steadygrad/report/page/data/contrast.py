"""Two runs' heat maps put on top of one another: how many times larger a norm is in the second.

Shape legend: P tensors that both have, C columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygrad.records import TensorInfo
from steadygrad.report.page.data.buckets import Buckets, buckets
from steadygrad.report.page.data.raster import (
    LEAST_COLUMNS,
    MOST_CELLS,
    MOST_COLUMNS,
    NONFINITE,
    NOTHING,
    raster,
)
from steadygrad.runfile import Run

UNKNOWN, ONE_NONFINITE = -32768, 32767
"""Codes besides differences: not both recorded a gradient, and exactly one is non-finite."""

_MOST = 30_000


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """How the norms of two runs differ.

    Attributes:
        buckets: the columns.
        cells: difference of the codes, second minus first, ``[P, C]``: 1/256 of a natural logarithm each.
        tensors: the tensors, in the first run's order.
    """

    buckets: Buckets
    cells: NDArray[np.int16]
    tensors: tuple[TensorInfo, ...]


def contrast(one: Run, other: Run) -> Contrast:
    """Compare two runs cell by cell.

    Args:
        one: the first run.
        other: the second.

    Returns:
        Both on the same columns; without rows where no tensor has the same name.
    """
    position = {tensor.name: i for i, tensor in reversed(list(enumerate(other.info.tensors)))}
    shared = [i for i, tensor in enumerate(one.info.tensors) if tensor.name in position]
    most = min(MOST_COLUMNS, max(LEAST_COLUMNS, MOST_CELLS // max(1, len(shared))))
    columns = buckets((one, other), most)
    tensors = tuple(one.info.tensors[i] for i in shared)
    first = raster(one, columns).cells[shared]
    second = raster(other, columns).cells[[position[tensor.name] for tensor in tensors]]
    return Contrast(columns, _difference(first, second), tensors)


def _difference(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> NDArray[np.int16]:
    apart = np.clip(second.astype(np.int32) - first.astype(np.int32), -_MOST, _MOST).astype(np.int16)
    bad = (first == NONFINITE) != (second == NONFINITE)
    apart[bad] = ONE_NONFINITE
    apart[(first == NOTHING) | (second == NOTHING)] = UNKNOWN
    return apart
