"""Scalars beside the rows of a run: the loss that was logged after its step, an accuracy, a reward.

Shape legend: T rows, n points of one scalar.
"""

from __future__ import annotations

import numpy as np

from steadygrad.runfile.block import HAS_LOSS, Float64Array, Head, IntArray


def on_rows(head: Head, step: IntArray, value: Float64Array) -> Float64Array:
    """Find the number that belongs to each row.

    A scalar counts the steps of the optimizers that step the most. An optimizer that steps more
    seldom (a GAN's generator) has steps of other numbers, so its rows get none.

    Args:
        head: the rows.
        step: step of each point ``[n]``.
        value: its value ``[n]``.

    Returns:
        Mean of the finite points of a row's steps ``[T]``; the last point where none is finite, NaN
        where there is no point.
    """
    joined = np.full(head.step.size, np.nan)
    steps = {i: int((head.step + head.resolution)[head.optimizer == i].max()) for i in set(head.optimizer)}
    for optimizer, made in steps.items():
        if made >= max(steps.values()) - 1:
            rows = np.flatnonzero(head.optimizer == optimizer)
            joined[rows] = _means(head.step[rows], head.resolution[rows], step, value)
    return joined


def with_losses(head: Head, step: IntArray, loss: Float64Array) -> Head:
    """Fill in the losses that weren't known yet when their rows were written.

    Args:
        head: the rows; those with a loss keep it.
        step: step of each logged loss ``[n]``.
        loss: its value ``[n]``.

    Returns:
        The rows with all losses.
    """
    joined = on_rows(head, step, loss)
    logged = on_rows(head, step, np.ones(loss.size)) > 0
    news = logged & ((head.flags & HAS_LOSS) == 0)
    columns = {name: getattr(head, name) for name in Head.__slots__}
    columns["loss"] = np.where(news, joined, head.loss)
    columns["flags"] = np.where(news, head.flags | HAS_LOSS, head.flags)
    return Head(**columns)


def _means(first: IntArray, resolution: IntArray, step: IntArray, value: Float64Array) -> Float64Array:
    order = np.argsort(first, kind="stable")
    place = np.searchsorted(first[order], step, side="right") - 1
    row = order[np.maximum(place, 0)]
    inside = (place >= 0) & (step < first[row] + resolution[row])
    row, value = row[inside], value[inside]
    means = np.full(first.size, np.nan)
    means[row] = value
    finite = np.isfinite(value)
    count = np.bincount(row[finite], minlength=first.size)
    total = np.bincount(row[finite], weights=value[finite], minlength=first.size)
    np.divide(total, count, out=means, where=count > 0)
    return means
