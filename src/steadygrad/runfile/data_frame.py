"""A run as a pandas table, for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steadygrad.framework import require
from steadygrad.runfile.columns import NORM_PREFIX, STEP_COLUMNS, column_names, scalar_names

if TYPE_CHECKING:
    from steadygrad.runfile.reader import Run

OLDEST_PANDAS = "2.0"


def data_frame(run: Run, tensors: Sequence[str] | None = None) -> Any:
    """Make the table.

    Args:
        run: the run.
        tensors: names of the tensors whose norms get a column; None gives all one, in the run's order.

    Returns:
        A `pandas.DataFrame` indexed by step; see `steadygrad.runfile.Run.to_pandas`.

    Raises:
        FrameworkMissing: pandas is absent or too old.
        UnknownName: the run has no tensor of such a name.
    """
    require("pandas", OLDEST_PANDAS, extra="pandas")
    import pandas as pd  # noqa: PLC0415 -- an optional dependency, of this method alone

    scalars = scalar_names(run)
    columns = {name: getattr(run, name) for name in STEP_COLUMNS[1:]}
    names = column_names(run.info.tensors, scalars)[len(STEP_COLUMNS) :]
    columns.update(zip(names, map(run.scalar_on_rows, scalars), strict=False))
    if tensors is None:
        norms, named = run.norm_matrix(), names[len(scalars) :]
    else:
        picked = [run.norms(name) for name in tensors]
        norms = np.stack(picked, axis=1) if picked else np.zeros((len(run.steps), 0))
        named = [NORM_PREFIX + name for name in tensors]
    index = pd.Index(run.steps, name="step")
    parts = [pd.DataFrame(columns, index=index), pd.DataFrame(norms, index=index, columns=named)]
    return pd.concat(parts, axis="columns")
