"""The two lines of numbers in the head of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.text import Text

from steadygrad.report.vitals import Vitals, state
from steadygrad.report.wording import duration, number, share
from steadygrad.runfile import Run

_GAP = "   "


def now(run: Run, vitals: Vitals, optimizer: int, now_s: float, width: int) -> Text:
    """Write the numbers of the newest step.

    Args:
        run: the run.
        vitals: of the run.
        optimizer: whose step.
        now_s: seconds since the epoch.
        width: columns there are.

    Returns:
        One line; the most wanted stands first, since a narrow terminal has no room for the rest.
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
    told = [
        Text(f"{label} ", "dim").append(value, "not dim bold")
        for label, value in [*parts, ("lr", number(newest.lr))]
    ]
    return fitted([line, *told], width)


def acted(vitals: Vitals, width: int) -> Text:
    """Write what was done so far, each with the letter that marks it in the picture.

    Args:
        vitals: of the run.
        width: columns there are.

    Returns:
        One line; where there is no room for all, what was done stands before what never was.
    """
    facts = vitals.facts
    counts = (
        ("c scaled down", facts.clipped, "cyan"),
        ("s skipped", facts.skipped, "yellow"),
        ("r rolled back", vitals.rolled_back, "magenta"),
        ("! non-finite", facts.nonfinite, "red"),
        ("overflow", facts.overflowed, ""),
    )
    told = [one for one in counts if one[1] or one[0] != "overflow"]
    parts = [
        Text(
            f"{label} {count:,}" + (f" ({share(count, facts.steps)})" if count else ""),
            style if count else "dim",
        )
        for label, count, style in told
    ]
    whole = Text(_GAP).join(parts)
    if whole.cell_len <= width:
        return whole
    return fitted([parts[i] for i in sorted(range(len(parts)), key=lambda i: not told[i][1])], width)


def fitted(parts: Sequence[Text], width: int) -> Text:
    """Put side by side what fits whole: half a number is read as another one."""
    line = parts[0]
    for part in parts[1:]:
        if line.cell_len + len(_GAP) + part.cell_len <= width:
            line = Text(_GAP).join([line, part])
    return line


def _state(run: Run, vitals: Vitals, now_s: float) -> str:
    started, written = run.info.started, run.last_written
    kind = state(finished=run.finished, started=started, last_written=written, now_s=now_s)
    age = duration(max(now_s - vitals.last_step_s, 0.0))
    return kind if kind == "finished" else f"{kind}, newest step {age} ago"
