"""Readings become a block of plain rows.

Shape legend: P tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from steadygrad.records import BoolArray, FloatArray, Reading, TensorInfo
from steadygrad.runfile.block import (
    HAS_CAP,
    HAS_LOSS,
    OVERFLOW,
    SKIPPED,
    Block,
    Body,
    Float64Array,
    Head,
    IntArray,
    Sparse,
)
from steadygrad.runfile.matrix import Matrix


class Layout:
    """Where an optimizer's norms stand among all tensors of the run.

    Args:
        tensors: all tensors of the run, ``P`` entries.
    """

    def __init__(self, tensors: Sequence[TensorInfo]) -> None:
        """Find the members of each optimizer."""
        self.size = len(tensors)
        owner = np.array([tensor.optimizer for tensor in tensors], dtype=np.int64)
        self._members = {int(index): np.flatnonzero(owner == index) for index in np.unique(owner)}

    def columns(self, optimizer: int, count: int) -> NDArray[np.intp]:
        """Positions of ``count`` norms: the whole run's, or those of one optimizer.

        Raises:
            ValueError: where neither has that many.
        """
        members = self._members.get(optimizer, np.zeros(0, np.intp))
        if count == self.size:
            return np.arange(count)
        if count == members.size:
            return members
        raise ValueError(
            f"a reading of optimizer {optimizer} has {count} norms; "
            f"the run has {self.size} tensors, {members.size} of them of this optimizer."
        )


def from_readings(readings: Sequence[Reading], layout: Layout) -> Block:
    """Code readings as plain rows.

    Args:
        readings: at least one, in order of writing.
        layout: of the run's tensors.

    Returns:
        The block, one row a reading.

    Raises:
        ValueError: where a reading's arrays don't fit the run's tensors.
    """
    norms, absent = _place([reading.norms for reading in readings], readings, layout)
    for row, reading in enumerate(readings):
        if reading.absent is not None:
            columns = layout.columns(reading.optimizer, len(reading.absent))
            absent[row, columns] |= reading.absent
    total_norm = _floats(reading.total_norm for reading in readings)
    head = Head(
        step=_ints(reading.step for reading in readings),
        optimizer=_ints(reading.optimizer for reading in readings),
        resolution=np.ones(len(readings), np.int64),
        flags=_ints(_flags(reading) for reading in readings),
        nonfinite=np.count_nonzero(~np.isfinite(norms) & ~absent, axis=1).astype(np.int64),
        time_s=_floats(reading.time_s for reading in readings),
        total_norm=total_norm,
        total_low=total_norm,
        total_high=total_norm,
        clip_coef=_floats(reading.clip_coef for reading in readings),
        cap=_floats(reading.cap for reading in readings),
        lr=_floats(reading.lr for reading in readings),
        lr_factor=_floats(reading.lr_factor for reading in readings),
        loss=_floats(reading.loss for reading in readings),
    )
    nothing = Matrix.empty(layout.size)
    none = np.zeros((0, layout.size), np.int64)
    body = Body(
        norms=Matrix.of(norms, absent),
        low=nothing,
        high=nothing,
        nan_count=none,
        inf_count=none,
        finite_count=none,
        param_norms=_sparse([reading.param_norms for reading in readings], readings, layout),
        update_norms=_sparse([reading.update_norms for reading in readings], readings, layout),
    )
    return Block(head, body)


def _place(
    arrays: Sequence[FloatArray], readings: Sequence[Reading], layout: Layout
) -> tuple[Float64Array, BoolArray]:
    values = np.zeros((len(arrays), layout.size))
    absent = np.ones((len(arrays), layout.size), np.bool_)
    for row, (array, reading) in enumerate(zip(arrays, readings, strict=True)):
        columns = layout.columns(reading.optimizer, len(array))
        values[row, columns] = array
        absent[row, columns] = False
    return values, absent


def _sparse(arrays: Sequence[FloatArray | None], readings: Sequence[Reading], layout: Layout) -> Sparse:
    rows = [row for row, array in enumerate(arrays) if array is not None]
    kept = [array for array in arrays if array is not None]
    placed = _place(kept, [readings[row] for row in rows], layout)
    return Sparse(np.array(rows, np.int64), Matrix.of(*placed))


def _flags(reading: Reading) -> int:
    return (
        SKIPPED * bool(reading.skipped)
        | OVERFLOW * bool(reading.overflow)
        | HAS_LOSS * (reading.loss is not None)
        | HAS_CAP * (reading.cap is not None)
    )


def _ints(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, np.int64)


def _floats(values: Iterable[float | None]) -> Float64Array:
    return np.array([np.nan if value is None else float(value) for value in values])
