"""Fewer, coarser rows from a block: minimum, mean and maximum of neighbouring steps.

Pure: which block to coarsen, and when, is decided in `steadygrad.runfile.tiers`.

Shape legend: T rows, G rows that are left, P tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygrad.records import BoolArray
from steadygrad.runfile.block import Block, Body, Float64Array, Head, IntArray, Sparse
from steadygrad.runfile.matrix import Matrix


def coarsen(block: Block, resolution: int, protected: BoolArray | None = None) -> Block:
    """Join rows of one optimizer until a row stands for about ``resolution`` steps.

    The mean, minimum and maximum are over finite norms, weighted by steps; NaN, Inf and missing
    gradients are counted. Protected rows stay as they are, and no row reaches across one.

    Args:
        block: the rows to join.
        resolution: steps a row shall stand for.
        protected: rows to leave alone ``[T]``; None for none.

    Returns:
        A block with the same steps in fewer rows.
    """
    bucket = _buckets(block.head, resolution, protected)
    if bucket.size == 0 or bucket.max() == bucket.size - 1:
        return block
    order = np.argsort(bucket, kind="stable")
    starts = np.flatnonzero(np.diff(bucket[order], prepend=-1))
    head = _head(block.head, order, starts)
    return Block(head, _body(block, order, starts, head.resolution > 1, bucket))


def _buckets(head: Head, resolution: int, protected: BoolArray | None) -> IntArray:
    """Index of the row that each row goes to ``[T]``, numbered by first appearance."""
    alone = np.zeros(head.step.size, np.bool_) if protected is None else protected
    stretch = np.cumsum(alone)
    key = np.zeros((head.step.size, 3), np.int64)
    for optimizer in np.unique(head.optimizer):
        mine = np.flatnonzero((head.optimizer == optimizer) & ~alone)
        for part in np.split(mine, np.flatnonzero(np.diff(stretch[mine])) + 1):
            key[part, 2] = _fill(head.resolution[part], resolution)
    key[:, 0] = head.optimizer
    key[:, 1] = 2 * stretch + alone
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse.reshape(-1)].astype(np.int64)


def _fill(steps: IntArray, resolution: int) -> IntArray:
    """Number rows so that those with one number stand for about ``resolution`` steps."""
    before = np.cumsum(steps) - steps
    return before // resolution


def _head(head: Head, order: NDArray[np.intp], starts: NDArray[np.intp]) -> Head:
    def add(values: NDArray[np.int64]) -> IntArray:
        return np.add.reduceat(values[order], starts)

    def first(values: Float64Array) -> Float64Array:
        return values[order][starts]

    weight = head.resolution.astype(np.float64)

    def mean(values: Float64Array) -> Float64Array:
        return _mean(values[order, None], weight[order, None], starts)[:, 0]

    return Head(
        step=head.step[order][starts],
        optimizer=head.optimizer[order][starts],
        resolution=add(head.resolution),
        flags=np.bitwise_or.reduceat(head.flags[order], starts),
        nonfinite=add(head.nonfinite),
        time_s=first(head.time_s),
        total_norm=mean(head.total_norm),
        total_low=_extreme(head.total_low[order, None], starts, np.fmin)[:, 0],
        total_high=_extreme(head.total_high[order, None], starts, np.fmax)[:, 0],
        clip_coef=np.fmin.reduceat(head.clip_coef[order], starts),
        cap=mean(head.cap),
        lr=mean(head.lr),
        lr_factor=np.fmin.reduceat(head.lr_factor[order], starts),
        loss=mean(head.loss),
    )


@dataclass(frozen=True, slots=True)
class _Spread:
    """Every row as if it were coarse, ``[T, P]`` each."""

    mean: Float64Array
    low: Float64Array
    high: Float64Array
    nan: IntArray
    inf: IntArray
    finite: IntArray


def _spread(block: Block) -> _Spread:
    body, coarse = block.body, block.head.resolution > 1
    mean = body.norms.values()
    low, high = mean.copy(), mean.copy()
    absent = body.norms.absent()
    nan = np.isnan(mean).astype(np.int64)
    inf = np.isinf(mean).astype(np.int64)
    finite = (np.isfinite(mean) & ~absent).astype(np.int64)
    low[coarse], high[coarse] = body.low.values(), body.high.values()
    nan[coarse], inf[coarse], finite[coarse] = body.nan_count, body.inf_count, body.finite_count
    return _Spread(mean, low, high, nan, inf, finite)


def _body(
    block: Block, order: NDArray[np.intp], starts: NDArray[np.intp], coarse: BoolArray, bucket: IntArray
) -> Body:
    spread = _spread(block)
    nan, inf, finite = (
        np.add.reduceat(count[order], starts, axis=0) for count in (spread.nan, spread.inf, spread.finite)
    )
    valid = spread.finite > 0
    mean = _mean(np.where(valid, spread.mean, 0.0)[order], spread.finite[order].astype(np.float64), starts)
    low = np.fmin.reduceat(np.where(valid, spread.low, np.nan)[order], starts, axis=0)
    high = np.fmax.reduceat(np.where(valid, spread.high, np.nan)[order], starts, axis=0)
    none_finite = np.where(nan > 0, np.nan, np.inf)
    absent = (finite == 0) & (nan == 0) & (inf == 0)

    def matrix(values: Float64Array, rows: BoolArray | slice) -> Matrix:
        return Matrix.of(np.where(finite > 0, values, none_finite)[rows], absent[rows])

    return Body(
        norms=matrix(mean, slice(None)),
        low=matrix(low, coarse),
        high=matrix(high, coarse),
        nan_count=nan[coarse],
        inf_count=inf[coarse],
        finite_count=finite[coarse],
        param_norms=_newest(block.body.param_norms, bucket),
        update_norms=_newest(block.body.update_norms, bucket),
    )


def _newest(sparse: Sparse, bucket: IntArray) -> Sparse:
    """Keep the last measurement of each new row."""
    target = bucket[sparse.rows]
    rows, from_end = np.unique(target[::-1], return_index=True)
    return Sparse(rows, sparse.matrix.take(sparse.rows.size - 1 - from_end))


def _mean(values: Float64Array, weight: Float64Array, starts: NDArray[np.intp]) -> Float64Array:
    """Weighted mean over the finite values of each new row; without any, NaN, or Inf if all are Inf."""
    good = np.isfinite(values)
    weight = np.where(good, weight, 0.0)
    total = np.add.reduceat(weight, starts, axis=0)
    share = weight / np.maximum(np.repeat(total, _lengths(starts, len(values)), axis=0), 1.0)
    mean = np.add.reduceat(np.where(good, values, 0.0) * share, starts, axis=0)
    worst = np.fmax.reduceat(np.where(good, -np.inf, values), starts, axis=0)
    has_nan = np.logical_or.reduceat(np.isnan(values), starts, axis=0)
    return np.where(total > 0, mean, np.where(has_nan, np.nan, worst))


def _extreme(values: Float64Array, starts: NDArray[np.intp], pick: np.ufunc) -> Float64Array:
    """Smallest or largest finite value of each new row; without any, as `_mean`."""
    finite: Float64Array = pick.reduceat(np.where(np.isfinite(values), values, np.nan), starts, axis=0)
    rest = _mean(values, np.ones_like(values), starts)
    return np.where(np.isnan(finite), rest, finite)


def _lengths(starts: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    return np.diff(starts, append=size)
