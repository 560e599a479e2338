"""Runs as lines of a table, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.text import Text

from steadygrad.records import SEVERITIES
from steadygrad.report.findings import STYLES
from steadygrad.report.vitals import state
from steadygrad.report.wording import moment, number, visible
from steadygrad.runfile import RunSummary

HEADINGS = ("started", "mode", "steps", "last norm", "findings", "state", "run")
_RIGHT = {"steps", "last norm"}


_DISPENSABLE = ("mode", "state", "started", "last norm", "steps", "findings")
"""What a narrow terminal has no room for, the first to go first."""
_NAME = 24
"""Columns by which most runs are told apart."""


def run_lines(runs: Sequence[RunSummary], now_s: float, width: int | None = None) -> Iterator[Text]:
    """Write the headings, then one line a run, never wrapped or shortened: the name stands last.

    Args:
        runs: the runs.
        now_s: seconds since the epoch; tells a run that is recorded from one that was cut off.
        width: columns there are; those of the table that leave no room for the names are left out. None keeps all.

    Yields:
        Lines of equal columns.
    """
    table = [[Text(heading, "bold") for heading in HEADINGS], *(_cells(run, now_s) for run in runs)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*table, strict=True)]
    kept = _kept(widths, width)
    for row in table:
        for i in kept[:-1]:
            row[i].align("right" if HEADINGS[i] in _RIGHT else "left", widths[i])
        yield Text("  ").join([row[i] for i in kept])


def _kept(widths: Sequence[int], width: int | None) -> list[int]:
    """Places of the columns that there is room for; that of the names always."""
    kept = list(range(len(HEADINGS)))
    names = min(widths[-1], max(_NAME, (width or 0) // 2))  # a single long name must not cost all the rest
    for heading in _DISPENSABLE:
        if width is None or sum(widths[i] + 2 for i in kept[:-1]) + names <= width:
            break
        kept.remove(HEADINGS.index(heading))
    return kept


def ill_first(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Those with an error, a warning or a norm that isn't finite: the worst first, equals in the order given.

    Args:
        runs: the runs.
    """
    ill = [run for run in runs if any(_illness(run))]
    return sorted(ill, key=_illness, reverse=True)


def _illness(run: RunSummary) -> tuple[int, int, bool]:
    is_broken = run.steps > 0 and not math.isfinite(run.last_total_norm)
    return run.findings.get("error", 0), run.findings.get("warning", 0), is_broken


def _cells(run: RunSummary, now_s: float) -> list[Text]:
    norm = number(run.last_total_norm) if run.steps else ""
    before = (moment(run.started), visible(run.mode), f"{run.steps:,}", norm)
    name = Text(visible(Path(run.path).name), "bold")
    kind = state(finished=run.finished, started=run.started, last_written=run.last_written, now_s=now_s)
    return [*map(Text, before), _findings(run), Text(kind), name]


def _findings(run: RunSummary) -> Text:
    """Counts by severity, the worst first."""
    counts = [(severity, run.findings.get(severity, 0)) for severity in reversed(SEVERITIES)]
    parts = [Text(f"{count:,} {severity}", STYLES[severity]) for severity, count in counts if count]
    return Text(", ").join(parts) if parts else Text("none")
