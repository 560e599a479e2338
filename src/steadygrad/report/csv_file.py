"""A run as comma-separated values."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from steadygrad.runfile import Run
from steadygrad.runfile.columns import blocks, column_names, scalar_names


def write_csv(run: Run, stream: TextIO) -> None:
    """Write one line a row, with a header.

    Numbers have nine digits, which is all a float32 holds; NaN is ``nan``, infinity ``inf``, and
    true is 1.

    Args:
        run: the run.
        stream: where to write; opened with ``newline=""``.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(column_names(run.info.tensors, scalar_names(run)))
    for columns in blocks(run):
        writer.writerows(zip(*map(_texts, columns), strict=True))


def _texts(column: NDArray[Any]) -> Iterable[str]:
    values = column.astype(np.int64) if column.dtype.kind == "b" else column
    return map("{:.9g}".format if values.dtype.kind == "f" else str, values.tolist())
