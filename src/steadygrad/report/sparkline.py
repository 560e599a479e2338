"""A small picture of a positive series over time, for a terminal.

Shape legend: T rows of the series, W columns of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from steadygrad.records import BoolArray, FloatArray
from steadygrad.report.wording import number

HEIGHT = 4
MOST_COLUMNS = 120
_LEVELS = " ▁▂▃▄▅▆▇█"
_ASCII_LEVELS = " ...:::##"
_INDENT = 2
_PER_ROW = len(_LEVELS) - 1
_LEAST_DECADES = 0.1  # a series that moves less than that is drawn as calm as it is


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """Rows to point at under the picture.

    Attributes:
        rows: which rows, ``[T]``.
        style: how the letter looks where colours are shown; the letter alone says it all.
    """

    rows: BoolArray
    style: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Sparkline:
    """Draw a series on a log axis, with letters below the columns that need a look.

    Each column shows the largest finite value of its rows, so a spike of a single step survives.
    Columns stand for equal numbers of steps, also where old rows stand for many steps each.

    Attributes:
        values: the series, ``[T]``; zeros and non-finite values have no height.
        weights: steps each row stands for, ``[T]``.
        marks: by the letter that marks them; of several in one column the first is shown.
        first: label of the left end.
        last: label of the right end.
    """

    values: FloatArray
    weights: NDArray[np.integer]
    marks: Mapping[str, Mark] = field(default_factory=dict)
    first: str = ""
    last: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the picture's lines, as wide as the console allows."""
        del console
        smallest, largest = extent(self.values)
        labels = [number(largest), *[""] * (HEIGHT - 2), number(smallest)]
        margin = _INDENT + max(map(len, labels))
        starts = column_starts(self.weights, min(options.max_width - margin - 1, MOST_COLUMNS))
        levels = column_levels(self.values, starts)
        blocks = _ASCII_LEVELS if options.ascii_only else _LEVELS
        for row, label in enumerate(labels):
            floor = (HEIGHT - 1 - row) * _PER_ROW
            yield Text(f"{label:>{margin}} ", style="dim").append(
                "".join(blocks[min(max(level - floor, 0), _PER_ROW)] for level in levels), style="not dim"
            )
        yield self._marks_line(starts, margin)
        gap = max(len(starts) - len(self.first) - len(self.last), 1)
        yield Text(" " * (margin + 1) + self.first + " " * gap + self.last, style="dim")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Say that any width will do."""
        del console
        return Measurement(20, options.max_width)

    def _marks_line(self, starts: NDArray[np.intp], margin: int) -> Text:
        line = Text(" " * (margin + 1))
        hits = {letter: np.logical_or.reduceat(mark.rows, starts) for letter, mark in self.marks.items()}
        for column in range(len(starts)):
            letter = next((letter for letter, hit in hits.items() if hit[column]), " ")
            line.append(letter, style=self.marks[letter].style if letter in self.marks else "")
        return line


def extent(values: FloatArray) -> tuple[float, float]:
    """Smallest and largest value that has a height; 0 and 0 where none has."""
    usable = values[_has_height(values)]
    return (float(usable.min()), float(usable.max())) if usable.size else (0.0, 0.0)


def column_starts(weights: NDArray[np.integer], width: int) -> NDArray[np.intp]:
    """First row of each column, ``[W]``: equal shares of all steps, at least one row a column."""
    ends = np.cumsum(weights)
    count = int(max(1, min(width, ends[-1])))
    starts: NDArray[np.intp] = np.searchsorted(ends, np.arange(count) * (ends[-1] / count), side="right")
    return starts


def column_levels(values: FloatArray, starts: NDArray[np.intp]) -> NDArray[np.integer]:
    """Height of each column in eighths of a line, ``[W]``; 0 where nothing has a height."""
    logs = np.full(len(values), -np.inf)
    usable = _has_height(values)
    logs[usable] = np.log10(values[usable].astype(np.float64))
    peaks = np.maximum.reduceat(logs, starts)
    low = logs[usable].min(initial=np.inf)
    span = max(logs[usable].max(initial=-np.inf) - low, _LEAST_DECADES)
    heights = np.zeros(len(starts), dtype=np.int64)
    shown = np.isfinite(peaks)
    heights[shown] = 1 + np.round((peaks[shown] - low) / span * (HEIGHT * _PER_ROW - 1))
    return heights


def _has_height(values: FloatArray) -> BoolArray:
    return np.isfinite(values) & (values > 0)
