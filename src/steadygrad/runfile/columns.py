"""A run as one flat table: the same columns for every file format.

Shape legend: T rows, P tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from steadygrad.records import TensorInfo

if TYPE_CHECKING:
    from steadygrad.runfile.reader import Run

BLOCK_VALUES = 2**21
"""Norms held in memory at a time: 16 MiB."""

STEP_COLUMNS = (
    "step",
    "resolution",
    "optimizer",
    "total_norm",
    "clip_coef",
    "cap",
    "skipped",
    "lr",
    "lr_factor",
    "loss",
    "time_s",
)
SCALAR_PREFIX = "scalar/"
NORM_PREFIX = "grad_norm/"


def scalar_names(run: Run) -> list[str]:
    """Names of the scalars that get a column: all but the loss, which has one."""
    return [name for name in run.scalar_names if name != "loss"]


def column_names(tensors: Sequence[TensorInfo], scalars: Sequence[str] = ()) -> list[str]:
    """Name all columns; a tensor's name that occurs again gets its place behind it.

    Args:
        tensors: the tensors of the run, ``P`` entries.
        scalars: from `scalar_names`.

    Returns:
        Distinct names: those of the step, then one for each scalar, then one for each tensor.

    Example:
        >>> column_names([TensorInfo("weight"), TensorInfo("weight")])[-2:]
        ['grad_norm/weight', 'grad_norm/weight#1']
    """
    wanted = [SCALAR_PREFIX + name for name in scalars]
    wanted += [NORM_PREFIX + tensor.name for tensor in tensors]
    names = dict.fromkeys(STEP_COLUMNS)
    for place, text in enumerate(wanted, -len(scalars)):
        name = text.encode("utf-8", "backslashreplace").decode()
        while name in names:
            name += f"#{place}"
        names[name] = None
    return list(names)


def blocks(run: Run) -> Iterator[list[NDArray[Any]]]:
    """Yield the run's columns, a stretch of rows at a time, so that any run fits into memory.

    Args:
        run: the run.

    Yields:
        One array a column, in the order of `column_names`.
    """
    total = len(run.steps)
    scalars = [run.scalar_on_rows(name) for name in scalar_names(run)]
    size = max(1, BLOCK_VALUES // max(1, len(run.info.tensors)))
    for start in range(0, total, size):
        rows = slice(start, min(start + size, total))
        norms = run.norm_matrix(rows.start, rows.stop)
        yield [*_step_values(run, rows), *(values[rows] for values in scalars), *norms.T]


def _step_values(run: Run, rows: slice) -> Iterator[NDArray[Any]]:
    for name in STEP_COLUMNS:
        yield getattr(run, "steps" if name == "step" else name)[rows]
