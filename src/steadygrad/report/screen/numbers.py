"""The two lines of numbers in the head of a run."""

from __future__ import annotations

import numpy as np
from rich.text import Text

from steadygrad.report.vitals import Vitals, state
from steadygrad.report.wording import duration, number, share
from steadygrad.runfile import Run


def now(run: Run, vitals: Vitals, optimizer: int, now_s: float) -> Text:
    """Write the numbers of the newest step.

    Args:
        run: the run.
        vitals: of the run.
        optimizer: whose step.
        now_s: seconds since the epoch.

    Returns:
        One line; the most wanted stands first, since a narrow terminal cuts the rest.
    """
    line = Text(_state(run, vitals, now_s))
    newest = next((one for one in vitals.newest if one.optimizer == optimizer), None)
    if newest is None:
        return line
    cap = "none" if np.isnan(newest.cap) else number(newest.cap)
    step = f"optimizer {optimizer}, step" if len(vitals.newest) > 1 else "step"
    parts = [(step, f"{newest.step:,}"), ("norm", number(newest.total_norm)), ("cap", cap)]
    if run.loss_logged.any():
        parts.insert(1, ("loss", number(vitals.loss)))
    if newest.steps_per_s > 0:
        parts.append(("steps/s", number(newest.steps_per_s)))
    for label, value in [*parts, ("lr", number(newest.lr))]:
        line.append(f"   {label} ", style="dim").append(value, style="not dim bold")
    return line


def acted(vitals: Vitals) -> Text:
    """Write what was done so far, each with the letter that marks it in the picture.

    Args:
        vitals: of the run.

    Returns:
        One line.
    """
    facts, line = vitals.facts, Text()
    counts = (
        ("c scaled down", facts.clipped, "cyan"),
        ("s skipped", facts.skipped, "yellow"),
        ("r rolled back", vitals.rolled_back, "magenta"),
        ("! non-finite", facts.nonfinite, "red"),
        ("overflow", facts.overflowed, ""),
    )
    for label, count, style in counts:
        if count or label != "overflow":
            part = f" ({share(count, facts.steps)})" if count else ""
            line.append("   " if line else "").append(
                f"{label} {count:,}{part}", style=style if count else "dim"
            )
    return line


def _state(run: Run, vitals: Vitals, now_s: float) -> str:
    started, written = run.info.started, run.last_written
    kind = state(finished=run.finished, started=started, last_written=written, now_s=now_s)
    age = duration(max(now_s - vitals.last_step_s, 0.0))
    return kind if kind == "finished" else f"{kind}, newest step {age} ago"
