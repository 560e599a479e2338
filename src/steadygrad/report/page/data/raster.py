"""Every tensor's gradient norm over the run, in as many columns as a page can hold.

A cell is the largest norm of its steps, and non-finite where any of them was: one bad step in a hundred
thousand is still a cell of its own colour. Everything is done on the 16-bit logarithmic codes of the run
file, whose order is that of the norms: nothing is decoded.

Shape legend: P tensors, T rows of one stretch, C columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygrad.records import BoolArray, TensorInfo
from steadygrad.report.page.data.buckets import Buckets, IntArray, buckets, spread
from steadygrad.runfile import Run
from steadygrad.runfile.block import Block
from steadygrad.runfile.codec import ABSENT, EXACT, INF, NAN, ZERO, CodeArray, decode
from steadygrad.runfile.matrix import Matrix

MOST_CELLS = 600_000
"""1.6 MB of the page."""

MOST_COLUMNS, LEAST_COLUMNS = 1200, 60

NOTHING, NO_GRADIENT, LEAST, NONFINITE = 0, 1, 5, 65535
"""Codes of a cell besides those of norms: no step, a gradient of zero or none, the smallest norm, no number."""


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """Norms of all tensors.

    Attributes:
        buckets: the columns.
        cells: codes, ``[P, C]``: 0 no step, 1 no gradient, 65535 non-finite, others 1/256 of a natural logarithm
            above one another.
        tensors: the tensors, P of them, in forward order.
    """

    buckets: Buckets
    cells: CodeArray
    tensors: tuple[TensorInfo, ...]

    @property
    def finite(self) -> BoolArray:
        """Cells that hold a norm above zero ``[P, C]``."""
        held: BoolArray = (self.cells >= LEAST) & (self.cells < NONFINITE)
        return held

    def values(self) -> NDArray[np.float64]:
        """Norms ``[P, C]``; NaN where there is none, Inf where it is non-finite."""
        values = decode(np.where(self.finite, self.cells, NAN).astype(np.uint16))
        values[self.cells == NONFINITE] = np.inf
        values[self.cells == NO_GRADIENT] = 0.0
        return values


class RasterMaker:
    """Makes the heat map from the stretches of a run as they come.

    Args:
        run: the run.
        columns: those of another picture on the same axis; None makes its own.
    """

    def __init__(self, run: Run, columns: Buckets | None = None) -> None:
        self._tensors = run.info.tensors
        most = min(MOST_COLUMNS, max(LEAST_COLUMNS, MOST_CELLS // max(1, len(self._tensors))))
        self._columns = columns or buckets((run,), most)
        self._cells = np.zeros((len(self._tensors), self._columns.count), np.uint16)
        self._rows = (run.steps, run.resolution, run.optimizer)

    def take(self, block: Block) -> None:
        """Paint one stretch."""
        _paint(self._cells[: block.tensors], _peaks(block), self._columns.place(block.head.step))

    def done(self) -> Raster:
        """The heat map, when all are painted."""
        steps, resolution, owners = self._rows
        starts, ends = self._columns.place(steps), self._columns.ends(steps, resolution)
        _fill(self._cells, self._tensors, starts, ends, owners)
        return Raster(self._columns, self._cells, self._tensors)


def raster(run: Run, columns: Buckets | None = None) -> Raster:
    """Prepare the heat map alone.

    Args:
        run: the run.
        columns: those of another picture on the same axis; None makes its own.

    Returns:
        The cells, in one pass over the file.
    """
    maker = RasterMaker(run, columns)
    for block in run.blocks():
        maker.take(block)
    return maker.done()


def _peaks(block: Block) -> CodeArray:
    """Largest norm of each row as a cell's code ``[P, T]``."""
    body = block.body
    peaks = cell_codes(body.norms)
    coarse = np.flatnonzero(block.head.resolution > 1)
    if coarse.size:
        peaks[:, coarse] = cell_codes(body.high)
        bad = ((body.nan_count > 0) | (body.inf_count > 0)).T
        peaks[:, coarse] = np.where(bad, np.uint16(NONFINITE), peaks[:, coarse])
    return peaks


def cell_value(code: int) -> float:
    """The norm that a cell's code stands for; NaN where it stands for no number."""
    return 0.0 if code <= NO_GRADIENT else math.nan if code == NONFINITE else float(decode(np.uint16(code)))


def cell_codes(matrix: Matrix) -> CodeArray:
    """The codes of a run file as codes of cells ``[P, T]``."""
    codes: CodeArray = _TABLE[matrix.codes]
    if matrix.exact.size:
        tiny = np.abs(matrix.exact) < 1.0
        codes[matrix.codes == EXACT] = np.where(tiny, LEAST, NONFINITE - 1)
    return codes


def _paint(cells: CodeArray, peaks: CodeArray, where: IntArray) -> None:
    """Raise every cell to the largest of the rows that begin in its column."""
    if (np.diff(where) < 0).any():
        order = np.argsort(where, kind="stable")
        where, peaks = where[order], peaks[:, order]
    if not where.size:
        return
    first = np.flatnonzero(np.diff(where, prepend=-1))
    columns = where[first]
    largest = peaks if first.size == where.size else np.maximum.reduceat(peaks, first, axis=1)
    cells[:, columns] = np.maximum(cells[:, columns], largest)


def _fill(
    cells: CodeArray, tensors: tuple[TensorInfo, ...], starts: IntArray, ends: IntArray, owners: IntArray
) -> None:
    """Columns in which no row begins, but into which a coarse one reaches, are like where it begins."""
    belongs = np.array([tensor.optimizer for tensor in tensors], np.int64)
    for optimizer in np.unique(owners):
        mine, rows = np.flatnonzero(belongs == optimizer), owners == optimizer
        source = spread(starts[rows], ends[rows], cells.shape[1])
        if mine.size and (source != np.arange(cells.shape[1])).any():
            filled = cells[np.ix_(mine, np.maximum(source, 0))]
            cells[mine] = np.where(source >= 0, filled, np.uint16(NOTHING))


def _table() -> CodeArray:
    table = np.arange(65536).astype(np.uint16)
    table[[ABSENT, ZERO]] = NO_GRADIENT
    table[[NAN, INF]] = NONFINITE
    table[NONFINITE] = NONFINITE - 1
    return table


_TABLE = _table()
