"""A recorded run, step by step again, for a sink.

Shape legend: P tensors of the whole run.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steadygrad.records import Reading
from steadygrad.runfile import Run

_BLOCK_ROWS = 4096


def readings(run: Run) -> Iterator[Reading]:
    """Yield one Reading a row; a row that stands for many steps is dated at its first.

    Args:
        run: the run.

    Yields:
        Readings over all tensors of the run ``[P]``; those of other optimizers, and those whose norm was
        recorded as 0 (no gradient), are absent.
    """
    owners = np.array([tensor.optimizer for tensor in run.info.tensors], np.int64)
    names = ("steps", "optimizer", "total_norm", "clip_coef", "cap", "skipped", "lr", "lr_factor", "time_s")
    columns = {name: getattr(run, name) for name in names}
    for start in range(0, len(run.steps), _BLOCK_ROWS):
        norms = run.norm_matrix(start, start + _BLOCK_ROWS)
        for offset, row in enumerate(norms):
            values = {name: column[start + offset].item() for name, column in columns.items()}
            cap = values.pop("cap")
            yield Reading(
                step=values.pop("steps"),
                norms=row,
                absent=(owners != values["optimizer"]) | (row == 0),
                cap=None if np.isnan(cap) else cap,
                **values,
            )


def logged_numbers(run: Run) -> Iterator[tuple[int, str, float]]:
    """Yield step, name and value of every number that was logged."""
    for name in run.scalar_names:
        steps, values = run.scalars(name)
        for step, value in zip(steps.tolist(), values.tolist(), strict=True):
            yield step, name, value
