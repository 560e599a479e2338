"""The tensors that need a look, one a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from steadygrad.report.screen.strain import Strained
from steadygrad.report.sparkline import blocks_of, column_levels, column_starts
from steadygrad.report.wording import number, visible

_NUMBERS = ("norm", "usual", "peak/usual")
_NUMBER_WIDTH = 11
_RECENT_WIDTH = 24
_LEAST_NAME = 14
_FAR = 10.0
"""A norm this many times its usual size is worth a colour."""


@dataclass(frozen=True, slots=True)
class TensorTable:
    """Names, numbers, and a small picture of the newest norms; what doesn't fit is left out from the right.

    Attributes:
        worst: the tensors, the worst first.
    """

    worst: Sequence[Strained]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the headings, then one line a tensor."""
        del console
        width = options.max_width
        numbers = max(min((width - _LEAST_NAME) // _NUMBER_WIDTH, len(_NUMBERS)), 0)
        left = width - numbers * _NUMBER_WIDTH
        recent = max(min(left - _LEAST_NAME - 2, _RECENT_WIDTH), 0)
        names = [visible(one.name) for one in self.worst]
        name = min(left - (recent + 2 if recent else 0), max(map(cell_len, ["worst tensors", *names])))
        heads = "".join(f"{head:>{_NUMBER_WIDTH}}" for head in _NUMBERS[:numbers])
        heading = Text("worst tensors"[:name].ljust(name), style="bold", no_wrap=True, overflow="crop")
        yield heading.append(heads + ("  newest rows" if recent >= 11 else ""), style="not bold dim")
        blocks = blocks_of(ascii_only=options.ascii_only)
        for one, text in zip(self.worst, names, strict=True):
            row = end_of(text, name) + "".join(f"{cell:>{_NUMBER_WIDTH}}" for cell in _numbers(one)[:numbers])
            style = "red" if one.nonfinite else "yellow" if one.ratio >= _FAR else ""
            picture = "  " + _picture(one, blocks, recent) if recent else ""
            yield Text(row + picture, style=style, no_wrap=True, overflow="crop")


def end_of(name: str, width: int) -> str:
    """Fit a qualified name into ``width`` columns; its end is what tells it from its neighbours.

    Example:
        >>> end_of("blocks.17.attention.weight", 12), end_of("bias", 6)
        ('..ion.weight', 'bias  ')
    """
    if cell_len(name) <= width:
        return set_cell_size(name, width)
    tail = name
    while tail and cell_len(tail) > width - 2:
        tail = tail[1:]
    return set_cell_size(f"..{tail}", width)


def _numbers(one: Strained) -> tuple[str, str, str]:
    usual = "none" if np.isnan(one.usual) else number(one.usual)
    peak = f"{one.nonfinite} bad" if one.nonfinite else f"x{number(one.ratio)}" if one.ratio else "-"
    return number(one.now), usual, peak


def _picture(one: Strained, blocks: str, width: int) -> str:
    starts = column_starts(np.ones(len(one.recent), np.int64), width)
    levels = column_levels(one.recent, starts, len(blocks) - 1)
    bad = np.logical_or.reduceat(~np.isfinite(one.recent), starts)
    return "".join("!" if wrong else blocks[level] for level, wrong in zip(levels, bad, strict=True))
