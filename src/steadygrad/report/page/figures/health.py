"""Activation health on the steps that were listened to, and what steadygrad cost.

Shape legend: K looks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, DataRange1d, HoverTool, PrintfTickFormatter, Range1d
from bokeh.plotting import figure

from steadygrad.report.page.data.buckets import Float64Array
from steadygrad.report.page.data.health import Health, Spent
from steadygrad.report.page.figures import look
from steadygrad.report.wording import visible

_PERCENT = "%g %%"


def health_figures(data: Health, steps: Any) -> list[figure]:
    """Draw activation health.

    Args:
        data: from `steadygrad.report.page.data.health.health`.
        steps: the range of steps that other pictures share.

    Returns:
        Dead and saturated units of the worst layer, and the largest activation below them; the source of both
        is named ``looks``.
    """
    source = ColumnDataSource(look_columns(data), name="looks")
    plots = [_shares(source, steps), _largest(source, steps)]
    for plot in plots:
        look.label_steps(plot, shown=plot is plots[-1])
    return plots


def look_columns(data: Health) -> dict[str, Any]:
    """What the source ``looks`` holds ``[K]``; shares in percent."""
    largest = data.column("largest")
    return {
        "step": data.steps.astype(np.float64),
        "dead": _percent(data.column("dead")),
        "dead_mean": _percent(data.column("dead_mean")),
        "dead_in": [visible(one.dead_in) for one in data.looks],
        "saturated": _percent(data.column("saturated")),
        "saturated_mean": _percent(data.column("saturated_mean")),
        "saturated_in": [visible(one.saturated_in) for one in data.looks],
        "largest": look.positive(np.where(np.isfinite(largest), largest, np.nan)),
        "largest_in": [visible(one.largest_in) for one in data.looks],
    }


def _percent(share: Float64Array) -> Float64Array:
    return 100.0 * np.where(np.isfinite(share), share, np.nan)


def _shares(source: ColumnDataSource, steps: Any) -> figure:
    plot = look.picture("activation health", 190, steps, y_range=Range1d(0.0, 102.0))
    plot.yaxis.axis_label, plot.yaxis.formatter = "worst layer", PrintfTickFormatter(format=_PERCENT)
    look.few_ticks(plot)
    for name, color, dash in (("dead", look.BLUE, "solid"), ("saturated", look.ORANGE, [6, 3])):
        line = plot.line("step", name, source=source, line_color=color, line_width=1.6, line_dash=dash,
                         legend_label=f"{name} units")  # fmt: skip
        plot.scatter("step", name, source=source, size=4, fill_color=color, line_color=None)
        tips = [("step", "@step{%d}"), (name, f"@{name}{{%.3g}} % in @{name}_in"),
                ("mean of the layers", f"@{name}_mean{{%.3g}} %")]  # fmt: skip
        formats = dict.fromkeys(("@step", f"@{name}", f"@{name}_mean"), "printf")
        plot.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips, formatters=formats))
    look.legend_above(plot)
    return plot


def _largest(source: ColumnDataSource, steps: Any) -> figure:
    known = np.asarray(source.data["largest"], np.float64)
    log = look.wants_log(known)
    axis: dict[str, Any] = {"y_axis_type": "log"} if log else {"y_range": DataRange1d(start=0.0)}
    plot = look.picture("largest activation", 140, steps, **axis)
    plot.yaxis.axis_label = "size"
    look.few_ticks(plot, 3)
    line = plot.line("step", "largest", source=source, line_color=look.PURPLE, line_width=1.6,
                     legend_label="largest activation")  # fmt: skip
    plot.scatter("step", "largest", source=source, size=4, fill_color=look.PURPLE, line_color=None)
    tips = [("step", "@step{%d}"), ("largest", "@largest{%.3g} into @largest_in")]
    formats = {"@step": "printf", "@largest": "printf"}
    plot.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips, formatters=formats))
    look.keep_axis(plot, bool(np.isfinite(known).any()), log=log)
    look.legend_above(plot)
    return plot


def overhead_figure(data: Spent, steps: Any) -> figure:
    """Draw what steadygrad cost.

    Args:
        data: from `steadygrad.report.page.data.health.spent`.
        steps: the range of steps that other pictures share.

    Returns:
        Percent of the training's time; the source is named ``overhead``.
    """
    plot = look.picture("overhead", 150, steps, y_range=DataRange1d(start=0.0))
    plot.yaxis.axis_label, plot.yaxis.formatter = "of the time", PrintfTickFormatter(format=_PERCENT)
    look.few_ticks(plot, 3)
    mean = _percent(data.mean)
    columns = {"step": data.steps.astype(np.float64), "mean": mean, "most": _percent(data.most)}
    source = ColumnDataSource(columns, name="overhead")
    plot.varea("step", 0.0, "mean", source=source, fill_color=look.BLUE, fill_alpha=0.2)
    line = plot.line("step", "mean", source=source, line_color=look.BLUE, line_width=1.6)
    plot.scatter(
        "step", "mean", source=source, size=4 if mean.size < 120 else 0, fill_color=look.BLUE, line_color=None
    )
    plot.add_tools(look.hover(line, ("percent", "mean"), ("at most", "most")))
    look.keep_axis(plot, bool((mean > 0).any()), log=False)
    look.label_steps(plot, shown=True)
    return plot
