"""The demo's table: a row for each way of training."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text

from steadygrad.demo.outcome import Fate, Outcome

_STYLES: dict[Fate, str] = {
    "learned": "green",
    "never learned": "yellow",
    "diverged": "red",
    "stopped": "red",
}


def table(outcomes: Iterable[Outcome]) -> Table:
    """Draw the outcomes of one workload."""
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    # Fits into 80 columns.
    drawn.add_column("trained with", no_wrap=True)
    drawn.add_column("held-out\nloss", justify="right", no_wrap=True)
    drawn.add_column("first bad\nstep", justify="right", no_wrap=True)
    drawn.add_column("where it began", overflow="fold")
    drawn.add_column("clipped", justify="right", no_wrap=True)
    drawn.add_column("skipped", justify="right", no_wrap=True)
    for outcome in outcomes:
        drawn.add_row(*_row(outcome))
    return drawn


def _row(outcome: Outcome) -> list[Text]:
    training = outcome.training
    return [
        Text(training.arm.label),
        Text(_score(outcome), style=_STYLES[outcome.fate]),
        Text(_first_bad_step(outcome)),
        Text(outcome.where or "-"),
        Text(f"{training.clipped:,}"),
        Text(f"{training.skipped:,}"),
    ]


def _score(outcome: Outcome) -> str:
    loss = outcome.held_out_loss
    if not math.isfinite(loss):
        return "NaN" if math.isnan(loss) else "Inf"
    score = f"{loss:.2f}" if loss < 1e4 else f"{loss:.1e}"
    return score if outcome.accuracy is None else f"{score} ({outcome.accuracy:.0%})"


def _first_bad_step(outcome: Outcome) -> str:
    if outcome.first_bad_step is not None:
        return f"{outcome.first_bad_step:,}"
    return "stuck" if outcome.fate == "never learned" else "-"
