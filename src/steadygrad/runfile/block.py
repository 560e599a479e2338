"""A stretch of a run in memory: the rows of one chunk, coded but not compressed.

A row is one optimizer step, or, where it is coarse, the ``resolution`` steps of one optimizer that
it stands for.

Shape legend: T rows, P tensors, K coarse rows (resolution above 1), M rows that measured
parameters or updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from steadygrad.runfile.matrix import Matrix, concat

IntArray = NDArray[np.int64]
Float64Array = NDArray[np.float64]

SKIPPED, OVERFLOW, HAS_LOSS, HAS_CAP = 1, 2, 4, 8


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The per-step columns, ``[T]`` each.

    Attributes:
        step: index of the (first) step.
        optimizer: index of the optimizer.
        resolution: optimizer steps the row stands for; 1 is a plain step.
        flags: ``SKIPPED``, ``OVERFLOW``, ``HAS_LOSS``, ``HAS_CAP``, or-ed.
        nonfinite: non-finite norms in the row, counted over tensors and steps.
        time_s: seconds since the run began, at the first step.
        total_norm: mean over the finite ones.
        total_low: smallest finite one; the total norm itself in a plain row.
        total_high: largest finite one; the total norm itself in a plain row.
        clip_coef: smallest one.
        cap: mean; NaN without.
        lr: mean.
        lr_factor: smallest one.
        loss: mean over the finite ones; NaN without.
    """

    step: IntArray
    optimizer: IntArray
    resolution: IntArray
    flags: IntArray
    nonfinite: IntArray
    time_s: Float64Array
    total_norm: Float64Array
    total_low: Float64Array
    total_high: Float64Array
    clip_coef: Float64Array
    cap: Float64Array
    lr: Float64Array
    lr_factor: Float64Array
    loss: Float64Array


_NO_INTS, _NO_FLOATS = np.zeros(0, np.int64), np.zeros(0)
NO_ROWS = Head(*(_NO_INTS,) * 5, *(_NO_FLOATS,) * 9)


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """Norms that only some rows have.

    Attributes:
        rows: which rows of the block, ``[M]``, rising.
        matrix: their norms, ``[P, M]``.
    """

    rows: IntArray
    matrix: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """The norms of the tensors.

    Attributes:
        norms: mean over the finite ones, ``[P, T]``.
        low: smallest finite one of the coarse rows, ``[P, K]``.
        high: largest finite one of the coarse rows, ``[P, K]``.
        nan_count: steps of the coarse rows whose norm was NaN, ``[K, P]``.
        inf_count: steps of the coarse rows whose norm was Inf, ``[K, P]``.
        finite_count: steps of the coarse rows whose norm was finite, ``[K, P]``; what is left of the
            resolution had no gradient.
        param_norms: of the parameters.
        update_norms: of the changes.
    """

    norms: Matrix
    low: Matrix
    high: Matrix
    nan_count: IntArray
    inf_count: IntArray
    finite_count: IntArray
    param_norms: Sparse
    update_norms: Sparse


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows in the order they were written: the per-step columns, and the norms."""

    head: Head
    body: Body

    @property
    def rows(self) -> int:
        """T."""
        return self.head.step.size

    @property
    def tensors(self) -> int:
        """P."""
        return self.body.norms.tensors


def join(blocks: Sequence[Block]) -> Block:
    """Put blocks one behind the other; a tensor that came later is absent before.

    Args:
        blocks: at least one.

    Returns:
        One block with all rows and the most tensors.
    """
    return Block(join_heads([block.head for block in blocks]), join_bodies([block.body for block in blocks]))


def join_heads(heads: Sequence[Head]) -> Head:
    """Put per-step columns one behind the other.

    Args:
        heads: at least one.

    Returns:
        All rows.
    """
    return Head(*(np.concatenate([getattr(head, name.name) for head in heads]) for name in fields(Head)))


def join_bodies(bodies: Sequence[Body]) -> Body:
    """Put norms one behind the other; narrower ones get absent tensors.

    Args:
        bodies: at least one.

    Returns:
        All rows.
    """
    tensors = max(body.norms.tensors for body in bodies)
    rows = np.cumsum([0, *(body.norms.rows for body in bodies[:-1])])
    return Body(
        norms=concat([body.norms for body in bodies], tensors),
        low=concat([body.low for body in bodies], tensors),
        high=concat([body.high for body in bodies], tensors),
        nan_count=_join_counts([body.nan_count for body in bodies], tensors),
        inf_count=_join_counts([body.inf_count for body in bodies], tensors),
        finite_count=_join_counts([body.finite_count for body in bodies], tensors),
        param_norms=_join_sparse([body.param_norms for body in bodies], rows, tensors),
        update_norms=_join_sparse([body.update_norms for body in bodies], rows, tensors),
    )


def _join_counts(counts: Sequence[IntArray], tensors: int) -> IntArray:
    return np.concatenate([np.pad(count, ((0, 0), (0, tensors - count.shape[1]))) for count in counts])


def _join_sparse(parts: Sequence[Sparse], offsets: IntArray, tensors: int) -> Sparse:
    rows = np.concatenate([part.rows + offset for part, offset in zip(parts, offsets, strict=True)])
    return Sparse(rows, concat([part.matrix for part in parts], tensors))
