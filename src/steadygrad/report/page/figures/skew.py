"""The ranks beside each other: a band, its median, and those that stray."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, DataRange1d
from bokeh.plotting import figure

from steadygrad.report.page.data.spread import spread
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.sketch import Sketch
from steadygrad.report.ranks import Skew

_COLORS = (look.ORANGE, look.GREEN, look.PURPLE, look.SKY)
_DASHES = ("solid", [6, 3], [2, 2], [8, 3, 2, 3])


def skew_sketch(found: Skew) -> Sketch:
    """Prepare the picture of one number of every rank.

    Args:
        found: from `steadygrad.report.ranks.skew`.

    Returns:
        The picture; its sources are named ``ranks`` and ``rank N``. It is drawn once, of runs that are over.
    """
    return Sketch("ranks", {}, lambda steps: (_figure(found, steps),))


def _figure(found: Skew, steps: Any) -> figure:
    data = spread(found)
    log = look.wants_log(np.concatenate([data.low, data.high]))
    axis: dict[str, Any] = {"y_axis_type": "log"} if log else {"y_range": DataRange1d(start=0.0)}
    plot = look.picture("ranks", 230, steps, **axis)
    plot.yaxis.axis_label = found.label
    look.few_ticks(plot)
    band = {"step": data.steps, "low": data.low, "high": data.high, "middle": data.middle}
    source = ColumnDataSource(band, name="ranks")
    plot.varea("step", "low", "high", source=source, fill_color=look.BLUE, fill_alpha=0.18)
    line = plot.line(
        "step", "middle", source=source, line_color=look.BLUE, line_width=2, legend_label="median"
    )
    plot.add_tools(look.hover(line, ("median", "middle"), ("smallest", "low"), ("largest", "high")))
    for (rank, values), color, dash in zip(data.lines.items(), _COLORS, _DASHES, strict=False):
        own = ColumnDataSource({"step": data.steps, "value": values}, name=f"rank {rank}")
        drawn = plot.line("step", "value", source=own, line_color=color, line_dash=dash, line_width=1.4,
                          legend_label=f"rank {rank}")  # fmt: skip
        plot.add_tools(look.hover(drawn, (f"rank {rank}", "value")))
    for rank, places in data.bad.items():
        plot.vspan(
            places, line_color=look.NONFINITE, line_width=1.5, legend_label=f"not finite on rank {rank}"
        )
    look.keep_axis(plot, bool(np.isfinite(data.middle).any()), log=log)
    look.label_steps(plot, shown=True)
    look.legend_above(plot)
    return plot
