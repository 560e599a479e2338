"""A run as a Parquet file, for pandas, polars and DuckDB."""

from __future__ import annotations

import os

import numpy as np

from steadygrad.errors import UsageError
from steadygrad.runfile import Run
from steadygrad.runfile.columns import blocks, column_names, scalar_names


def write_parquet(run: Run, path: str | os.PathLike[str]) -> None:
    """Write the run as one table.

    Args:
        run: the run.
        path: the file to write; an existing one is overwritten.

    Raises:
        UsageError: pyarrow isn't installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow, which isn't installed. Install it with `pip install 'steadygrad[parquet]'`, "
            "or export to csv."
        ) from None
    names = column_names(run.info.tensors, scalar_names(run))
    kinds = {"step": pa.int64(), "resolution": pa.int64(), "optimizer": pa.int64(), "skipped": pa.bool_()}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in names])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for columns in blocks(run):
            arrays = [np.ascontiguousarray(column) for column in columns]
            writer.write_table(pa.Table.from_arrays([pa.array(a) for a in arrays], schema=schema))
