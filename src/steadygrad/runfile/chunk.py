"""Pack one block into two byte strings, and back.

``head`` holds the per-step columns, ``body`` the norms of the tensors: who only asks for the curve
of the total norm never unpacks the rest. The total norm, clip_coef and cap keep 20 of float32's 32
bits (relative error 2**-12), the loss 24 (2**-16); times are whole milliseconds.
"""

from __future__ import annotations

import numpy as np

from steadygrad.runfile.block import Block, Body, Float64Array, Head, IntArray, Sparse
from steadygrad.runfile.matrix import Matrix
from steadygrad.runfile.planes import PlaneReader, PlaneWriter

_MAX_TIME_S = 1e12


def pack(block: Block) -> tuple[bytes, bytes]:
    """Turn a block into ``head`` and ``body``.

    Args:
        block: any number of rows.

    Returns:
        The two byte strings.
    """
    return _pack_head(block.head), _pack_body(block)


def unpack(head: bytes, body: bytes) -> Block:
    """Turn ``head`` and ``body`` back into a block.

    Args:
        head: from `pack`.
        body: from `pack`.

    Returns:
        The block.

    Raises:
        RunFileError: where the bytes are damaged.
    """
    return Block(unpack_head(head), unpack_body(body))


def unpack_head(data: bytes) -> Head:
    """Read the per-step columns alone.

    Args:
        data: ``head``, from `pack`.

    Returns:
        The columns.

    Raises:
        RunFileError: where the bytes are damaged.
    """
    source = PlaneReader(data)
    rows = source.count()
    step, optimizer, resolution, flags, nonfinite = (source.ints(rows) for _ in range(5))
    time_s = source.ints(rows) / 1000 if source.count() else source.floats(rows)
    total_norm = source.floats(rows)
    low, high = total_norm.copy(), total_norm.copy()
    coarse = resolution > 1
    coarse_rows = int(np.count_nonzero(coarse))
    low[coarse] = source.floats(coarse_rows)
    high[coarse] = source.floats(coarse_rows)
    clip_coef, cap, lr, lr_factor, loss = (source.floats(rows) for _ in range(5))
    return Head(
        step, optimizer, resolution, flags, nonfinite, time_s, total_norm, low, high,
        clip_coef, cap, lr, lr_factor, loss,
    )  # fmt: skip


def unpack_body(data: bytes) -> Body:
    """Read the norms alone.

    Args:
        data: ``body``, from `pack`.

    Returns:
        The norms.

    Raises:
        RunFileError: where the bytes are damaged.
    """
    source = PlaneReader(data)
    rows, coarse, tensors = source.count(), source.count(), source.count()
    norms = Matrix.unpack(source, rows, tensors)
    low, high = (Matrix.unpack(source, coarse, tensors) for _ in range(2))
    nan, inf, finite = (source.ints(coarse * tensors).reshape(coarse, tensors) for _ in range(3))
    return Body(
        norms, low, high, nan, inf, finite, _unpack_sparse(source, tensors), _unpack_sparse(source, tensors)
    )


def _pack_head(head: Head) -> bytes:
    out = PlaneWriter()
    out.count(head.step.size)
    for counts in (head.step, head.optimizer, head.resolution, head.flags, head.nonfinite):
        out.ints(counts)
    _pack_time(out, head.time_s)
    out.floats(head.total_norm, "brief")
    coarse = head.resolution > 1
    out.floats(head.total_low[coarse], "brief")
    out.floats(head.total_high[coarse], "brief")
    out.floats(head.clip_coef, "brief")
    out.floats(head.cap, "brief")
    out.floats(head.lr)
    out.floats(head.lr_factor)
    out.floats(head.loss, "short")
    return out.getvalue()


def _pack_time(out: PlaneWriter, time_s: Float64Array) -> None:
    whole = bool(np.all(np.abs(time_s) < _MAX_TIME_S))
    out.count(int(whole))
    if whole:
        out.ints(np.rint(time_s * 1000).astype(np.int64))
    else:
        out.floats(time_s)


def _pack_body(block: Block) -> bytes:
    body, out = block.body, PlaneWriter()
    for count in (block.rows, body.low.rows, block.tensors):
        out.count(count)
    for matrix in (body.norms, body.low, body.high):
        matrix.pack(out)
    for counts in (body.nan_count, body.inf_count, body.finite_count):
        out.ints(counts.ravel())
    for sparse in (body.param_norms, body.update_norms):
        _pack_sparse(out, sparse)
    return out.getvalue()


def _pack_sparse(out: PlaneWriter, sparse: Sparse) -> None:
    out.count(sparse.rows.size)
    out.ints(sparse.rows)
    sparse.matrix.pack(out)


def _unpack_sparse(source: PlaneReader, tensors: int) -> Sparse:
    count = source.count()
    rows: IntArray = source.ints(count)
    return Sparse(rows, Matrix.unpack(source, count, tensors))
