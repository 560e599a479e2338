"""The course of a run in columns: total norm, cap, loss, rate, and what was done at which step.

Shape legend: T rows of the run, C columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steadygrad.records import BoolArray
from steadygrad.report.page.data.buckets import Buckets, Float64Array, buckets
from steadygrad.report.page.data.envelope import Envelope, Rows
from steadygrad.runfile import Run

MOST_COLUMNS = 2000
"""More than a screen has pixels for one picture; a zoomed one still shows twice as many."""

EVENTS = {
    "nonfinite": "non-finite",
    "skipped": "skipped",
    "rolled_back": "rolled back",
    "clipped": "scaled down",
    "overflow": "loss scale",
}
"""What may be marked on the course, the worst first, and what it is called."""


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """One optimizer's course.

    Attributes:
        optimizer: its index.
        norm: total norm before any clipping.
        cap: total norm above which a step would have been scaled.
        lr: learning rate as the schedule set it.
        used_lr: the same times what steadygrad multiplied it by.
        events: columns ``[C]`` by key of `EVENTS`.
    """

    optimizer: int
    norm: Envelope
    cap: Envelope
    lr: Envelope
    used_lr: Envelope
    events: dict[str, BoolArray]


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """The course of a run.

    Attributes:
        buckets: the columns.
        lanes: one for each optimizer.
        loss: the loss as it was logged.
        bad_loss: columns with a loss that is no finite number ``[C]``.
    """

    buckets: Buckets
    lanes: tuple[Lane, ...]
    loss: Envelope
    bad_loss: BoolArray


def course(run: Run, columns: Buckets | None = None) -> Course:
    """Prepare the course of a run.

    Args:
        run: the run.
        columns: those of another picture on the same axis; None makes its own.

    Returns:
        The course; without lanes where no step was recorded.
    """
    columns = columns or buckets((run,), MOST_COLUMNS)
    rows = Rows.of(columns, run.steps, run.resolution)
    return Course(
        columns,
        tuple(_lane(run, columns, int(i)) for i in np.unique(run.optimizer)),
        rows.envelope(run.loss, run.loss, run.loss),
        rows.any(run.loss_logged & ~np.isfinite(run.loss)),
    )


def _lane(run: Run, columns: Buckets, optimizer: int) -> Lane:
    mine = run.optimizer == optimizer
    rows = Rows.of(columns, run.steps[mine], run.resolution[mine])

    def plain(values: Float64Array) -> Envelope:
        return rows.envelope(values[mine], values[mine], values[mine])

    norm = rows.envelope(run.total_norm_min[mine], run.total_norm[mine], run.total_norm_max[mine])
    events = {key: rows.any(hit[mine]) for key, hit in _events(run).items()}
    back = [one.step for one in run.incidents if one.action == "rollback" and one.optimizer == optimizer]
    events["rolled_back"] = np.zeros(columns.count, np.bool_)
    events["rolled_back"][columns.place(np.array(back, np.int64))] = True
    return Lane(optimizer, norm, plain(run.cap), plain(run.lr), plain(run.lr * run.lr_factor), events)


def _events(run: Run) -> dict[str, BoolArray]:
    return {
        "nonfinite": (run.nonfinite_count > 0) & ~run.overflow,
        "skipped": run.skipped & ~run.overflow,
        "clipped": (run.clip_coef < 1.0) & ~run.skipped,
        "overflow": run.overflow,
    }
