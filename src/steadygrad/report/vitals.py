"""How a run is doing now: its newest step, what was done so far, and whether it is still recorded.

Shape legend: T rows of the run; an old row may stand for many steps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from steadygrad.records import Severity
from steadygrad.report.facts import Facts, gather
from steadygrad.runfile import Run

State = Literal["recording", "finished", "cut off"]

STILL_WRITING_S = 60.0
"""A writer stores a step within a second or two; after a minute without one, its process is gone or stands still."""

_RATE_ROWS = 64


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest step of one optimizer.

    Attributes:
        optimizer: its index.
        step: the step.
        total_norm: norm of all gradients together.
        cap: total norm above which it would have been scaled; NaN without a cap.
        clip_coef: smallest factor applied to a gradient.
        lr: learning rate as the schedule set it.
        steps_per_s: over the newest rows; NaN before the second.
    """

    optimizer: int
    step: int
    total_norm: float
    cap: float
    clip_coef: float
    lr: float
    steps_per_s: float


@dataclass(frozen=True, slots=True)
class Vitals:
    """One run at one moment.

    Attributes:
        facts: counts over the whole run.
        newest: the newest step of each optimizer.
        loss: the newest loss that was logged, NaN and Inf included; NaN where none was.
        rolled_back: times the state went back to an earlier one.
        findings: number by kind and severity.
        last_step_s: when the newest step was, seconds since the epoch; the run's start before the first.
    """

    facts: Facts
    newest: tuple[Newest, ...]
    loss: float
    rolled_back: int
    findings: Mapping[tuple[str, Severity], int]
    last_step_s: float


def take_vitals(run: Run) -> Vitals:
    """Take the vital signs of a run, from its file alone.

    Args:
        run: the run.

    Returns:
        What it says now.

    Example:
        >>> take_vitals(steadygrad.open_run("runs/a.steady")).loss  # doctest: +SKIP
        0.4213
    """
    losses = run.loss[run.loss_logged]
    return Vitals(
        facts=gather(run),
        newest=tuple(_newest(run, int(i)) for i in np.unique(run.optimizer)),
        loss=float(losses[-1]) if losses.size else math.nan,
        rolled_back=sum(incident.action == "rollback" for incident in run.incidents),
        findings=Counter((finding.kind, finding.severity) for finding in run.findings),
        last_step_s=run.info.started + float(run.time_s.max(initial=0.0)),
    )


def state(*, finished: bool, started: float, last_written: float, now_s: float) -> State:
    """Say whether a run is still recorded.

    Args:
        finished: whether its writer closed it.
        started: seconds since the epoch.
        last_written: seconds since the epoch.
        now_s: seconds since the epoch.

    Returns:
        ``cut off`` for one that was not closed, and to which nothing was added for a minute.
    """
    if finished:
        return "finished"
    return "recording" if now_s - max(started, last_written) < STILL_WRITING_S else "cut off"


def _newest(run: Run, optimizer: int) -> Newest:
    rows = np.flatnonzero(run.optimizer == optimizer)[-_RATE_ROWS:]
    at, seconds = rows[-1], float(run.time_s[rows[-1]] - run.time_s[rows[0]])
    step = int(run.steps[at] + run.resolution[at] - 1)
    rate = float(step - run.steps[rows[0]]) / seconds if seconds > 0 else math.nan
    return Newest(
        optimizer,
        step,
        total_norm=float(run.total_norm[at]),
        cap=float(run.cap[at]),
        clip_coef=float(run.clip_coef[at]),
        lr=float(run.lr[at]),
        steps_per_s=rate,
    )
