"""``steadygrad runs [FOLDER]``: the runs in a folder, newest first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from steadygrad.cli.place import RUNS_FOLDER

if TYPE_CHECKING:
    from rich.text import Text

    from steadygrad.runfile import RunSummary

HEADINGS = ("started", "mode", "steps", "last norm", "findings", "state", "run")
RIGHT = {"steps", "last norm"}
STILL_WRITING_S = 60.0
"""A writer stores something every 2 s; after a minute without, its process is gone or stands still."""


@click.command("runs", short_help="List the runs in a folder.")
@click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=None, required=False
)
def command(folder: Path | None) -> None:
    """List the runs in FOLDER (default: steadygrad-runs), newest first."""
    from steadygrad.cli.terminal import console
    from steadygrad.runfile import list_runs

    where = folder or RUNS_FOLDER
    runs = list_runs(where) if where.is_dir() else []
    if not runs:
        click.echo(f"No runs in {where}. Record one with steadygrad.guard(..., run='{where}/first.steady').")
        return
    out = console()
    for line in _lines(runs, time.time()):
        out.print(line, crop=False, soft_wrap=True)


def _lines(runs: Sequence[RunSummary], now_s: float) -> Iterator[Text]:
    """One line a run, never wrapped or shortened: the name stands last, where it may be long."""
    from rich.text import Text

    table = [[Text(heading, "bold") for heading in HEADINGS], *(_cells(run, now_s) for run in runs)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        for heading, cell, width in zip(HEADINGS[:-1], row, widths, strict=False):
            cell.align("right" if heading in RIGHT else "left", width)
        yield Text("  ").join(row)


def _cells(run: RunSummary, now_s: float) -> list[Text]:
    from rich.text import Text

    from steadygrad.report.wording import moment, number, visible

    norm = number(run.last_total_norm) if run.steps else ""
    before = (moment(run.started), visible(run.mode), f"{run.steps:,}", norm)
    name = Text(visible(Path(run.path).name), "bold")
    return [*map(Text, before), _findings(run), Text(_state(run, now_s)), name]


def _findings(run: RunSummary) -> Text:
    """Counts by severity, the worst first."""
    from rich.text import Text

    from steadygrad.records import SEVERITIES
    from steadygrad.report.findings import STYLES

    counts = [(severity, run.findings.get(severity, 0)) for severity in reversed(SEVERITIES)]
    parts = [Text(f"{count:,} {severity}", STYLES[severity]) for severity, count in counts if count]
    return Text(", ").join(parts) if parts else Text("none")


def _state(run: RunSummary, now_s: float) -> str:
    if run.finished:
        return "finished"
    newest = max(run.started, run.last_written)
    return "recording" if now_s - newest < STILL_WRITING_S else "cut off"
