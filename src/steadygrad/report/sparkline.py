"""A small picture of a series over time, for a terminal.

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
_LEAST_SHARE = 0.2  # the same on a linear axis
_TINY = float(np.finfo(np.float64).tiny)


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
    """Draw a series, on a log axis unless told otherwise, with letters below the columns that need a look.

    Each column shows the largest finite value of its rows, so a spike of a single step survives.
    Columns stand for equal numbers of steps, also where old rows stand for many steps each.

    Attributes:
        values: the series, ``[T]``; non-finite values have no height, nor have zeros on a log axis.
        weights: steps each row stands for, ``[T]``.
        marks: by the letter that marks them; of several in one column the first is shown.
        first: label of the left end.
        last: label of the right end.
        height: lines.
        log: whether the axis is logarithmic; a loss that goes below zero needs a linear one.
    """

    values: FloatArray
    weights: NDArray[np.integer]
    marks: Mapping[str, Mark] = field(default_factory=dict)
    first: str = ""
    last: str = ""
    height: int = HEIGHT
    log: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the picture's lines, as wide as the console allows."""
        del console
        smallest, largest = extent(self.values, log=self.log)
        labels = [number(largest), *[""] * (self.height - 2), number(smallest)][: self.height]
        margin = _INDENT + max(map(len, labels))
        starts = column_starts(self.weights, min(options.max_width - margin - 1, MOST_COLUMNS))
        levels = column_levels(self.values, starts, self.height * _PER_ROW, log=self.log)
        blocks = blocks_of(ascii_only=options.ascii_only)
        for row, label in enumerate(labels):
            floor = (self.height - 1 - row) * _PER_ROW
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


def blocks_of(*, ascii_only: bool) -> str:
    """Characters of rising height, the empty one first."""
    return _ASCII_LEVELS if ascii_only else _LEVELS


def extent(values: FloatArray, *, log: bool = True) -> tuple[float, float]:
    """Smallest and largest value that has a height; 0 and 0 where none has."""
    usable = values[_has_height(values, log=log)]
    return (float(usable.min()), float(usable.max())) if usable.size else (0.0, 0.0)


def column_starts(weights: NDArray[np.integer], width: int) -> NDArray[np.intp]:
    """First row of each column, ``[W]``: equal shares of all steps, at least one row a column."""
    ends = np.cumsum(weights)
    count = int(max(1, min(width, ends[-1])))
    starts: NDArray[np.intp] = np.searchsorted(ends, np.arange(count) * (ends[-1] / count), side="right")
    return starts


def column_levels(
    values: FloatArray, starts: NDArray[np.intp], levels: int = HEIGHT * _PER_ROW, *, log: bool = True
) -> NDArray[np.integer]:
    """Height of each column in eighths of a line, ``[W]``, 1 to ``levels``; 0 where nothing has a height."""
    heights = np.full(len(values), -np.inf)
    usable = _has_height(values, log=log)
    exact = values[usable].astype(np.float64)
    # A linear axis is in shares of the largest size, so that no difference can overflow.
    heights[usable] = np.log10(exact) if log else exact / max(np.abs(exact).max(initial=0.0), _TINY)
    peaks = np.maximum.reduceat(heights, starts)
    low, high = heights[usable].min(initial=np.inf), heights[usable].max(initial=-np.inf)
    span = max(high - low, _LEAST_DECADES if log else _LEAST_SHARE)
    shown = np.isfinite(peaks)
    drawn = np.zeros(len(starts), dtype=np.int64)
    drawn[shown] = 1 + np.round((peaks[shown] - low) / span * (levels - 1))
    return drawn


def _has_height(values: FloatArray, *, log: bool) -> BoolArray:
    return np.isfinite(values) & (values > 0) if log else np.isfinite(values)
