"""Loss and total norm of a run as two small pictures.

Shape legend: T rows of one optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from steadygrad.records import BoolArray, FloatArray
from steadygrad.report.sparkline import Mark, Sparkline
from steadygrad.report.wording import number
from steadygrad.runfile import Run


def norm_picture(run: Run, rows: BoolArray, height: int) -> Iterator[RenderableType]:
    """Draw the total norm, and mark what was done.

    Args:
        run: the run.
        rows: those of one optimizer, at least one.
        height: lines of the picture itself.

    Yields:
        Its heading, and the picture.
    """
    steps = run.steps[rows]
    back = [step.step for step in run.incidents if step.action == "rollback"]
    marks = {
        "!": Mark(run.nonfinite_count[rows] > 0, "red"),
        "r": Mark(np.isin(steps, back), "magenta"),
        "s": Mark(run.skipped[rows], "yellow"),
        "c": Mark(run.clip_coef[rows] < 1.0, "cyan"),
    }
    cap = float(run.cap[rows][-1])
    capped = "" if np.isnan(cap) else f", cap {number(cap)}"
    yield _heading("total gradient norm", _usual(run.total_norm[rows]) + capped)
    ends = (f"step {steps[0]:,}", f"{steps[-1]:,}")
    yield Sparkline(run.total_norm_max[rows], run.resolution[rows], marks, *ends, height=height)


def loss_picture(run: Run, rows: BoolArray, height: int) -> Iterator[RenderableType]:
    """Draw the loss, on a linear axis where it goes below zero.

    Args:
        run: the run.
        rows: those of one optimizer; a loss was logged for one of them.
        height: lines of the picture itself.

    Yields:
        Its heading, and the picture.
    """
    shown = rows & run.loss_logged
    loss, steps = run.loss[shown], run.steps[shown]
    log = not (loss < 0).any()
    bad = Mark(~np.isfinite(loss), "red")
    course = f"{number(float(loss[0]))} to {number(float(loss[-1]))}"
    notes = ("" if log else ", linear axis") + (", ! non-finite" if bad.rows.any() else "")
    yield _heading("loss", course + notes)
    ends = (f"step {steps[0]:,}", f"{steps[-1]:,}")
    yield Sparkline(loss, run.resolution[shown], {"!": bad}, *ends, height=height, log=log)


def _heading(title: str, notes: str) -> Text:
    line = Text(no_wrap=True, overflow="crop")
    return line.append(title, style="bold").append(f"  {notes}", style="dim")


def _usual(norms: FloatArray) -> str:
    finite = norms[np.isfinite(norms)]
    return f"median {number(float(np.median(finite)))}" if finite.size else "never finite"
