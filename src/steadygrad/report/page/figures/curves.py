"""One series as an area between its smallest and largest, with its mean as a line.

Shape legend: C columns.
"""

from __future__ import annotations

import numpy as np
from bokeh.models import ColumnDataSource, GlyphRenderer
from bokeh.plotting import figure

from steadygrad.report.page.data.buckets import Buckets, Float64Array
from steadygrad.report.page.data.envelope import Envelope
from steadygrad.report.page.figures.look import positive


def columns(buckets: Buckets, envelope: Envelope, *, log: bool = False) -> dict[str, Float64Array]:
    """What a curve's source holds, ``[C]`` each: ``step``, ``low``, ``middle``, ``high``, ``lone``.

    Args:
        buckets: the columns.
        envelope: the series.
        log: it is for a logarithmic axis.

    Returns:
        The data; ``lone`` are points without a neighbour, which a line doesn't show.
    """
    parts = [envelope.low, envelope.middle, envelope.high]
    low, middle, high = (positive(part) for part in parts) if log else parts
    known = np.isfinite(np.pad(middle, 1, constant_values=np.nan))
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    narrow = {"low": low, "middle": middle, "high": high, "lone": np.where(alone, middle, np.nan)}
    return {"step": buckets.middles, **narrow}


def curve(plot: figure, source: ColumnDataSource, color: str, label: str) -> GlyphRenderer:
    """Draw one series.

    Args:
        plot: where.
        source: data from `columns`.
        color: its colour.
        label: its name in the legend; empty for none.

    Returns:
        The line of the mean, for a hover tool.
    """
    named = {"legend_label": label} if label else {}
    plot.varea("step", "low", "high", source=source, fill_color=color, fill_alpha=0.3, **named)
    plot.line("step", "high", source=source, line_color=color, line_width=1, line_alpha=0.55, **named)
    plot.scatter("step", "lone", source=source, fill_color=color, line_color=None, size=5)
    line: GlyphRenderer = plot.line(
        "step", "middle", source=source, line_color=color, line_width=1.6, **named
    )
    return line
