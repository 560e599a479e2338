"""Activation health on the steps that were listened to, and what steadygrad cost.

Shape legend: K looks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from bokeh.models import ColumnDataSource, DataRange1d, HoverTool, PrintfTickFormatter, Range1d
from bokeh.plotting import figure

from steadygrad.report.page.data.buckets import Float64Array
from steadygrad.report.page.data.health import Health, Spent
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.sketch import Numbers, Sketch, source
from steadygrad.report.wording import visible

_PERCENT = "%g %%"
_FEW = 120
"""Points up to which each has a dot."""


def health_sketch(data: Health) -> Sketch:
    """Prepare the pictures of activation health.

    Args:
        data: from `steadygrad.report.page.data.health.health`.

    Returns:
        Dead and saturated units of the worst layer, and the largest activation below them; the source of both
        is named ``looks``.
    """
    numbers = {"looks": {"data": look_columns(data)}}
    largest = numbers["looks"]["data"]["largest"]
    plan = _Largest(look.wants_log(largest), bool(np.isfinite(largest).any()))
    return Sketch(plan, numbers, lambda steps: _health(plan, numbers, steps))


class _Largest(NamedTuple):
    """How the largest activation is drawn: on a logarithmic axis, and whether any is finite."""

    log: bool
    finite: bool


def _health(plan: _Largest, numbers: Numbers, steps: Any) -> tuple[figure, figure]:
    looks = source(numbers, "looks")
    shares, largest = _shares(looks, steps), _largest(looks, plan, steps)
    look.label_steps(shares, shown=False)
    look.label_steps(largest, shown=True)
    return shares, largest


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


def _shares(looks: ColumnDataSource, steps: Any) -> figure:
    plot = look.picture("activation health", 190, steps, y_range=Range1d(0.0, 102.0))
    plot.yaxis.axis_label, plot.yaxis.formatter = "worst layer", PrintfTickFormatter(format=_PERCENT)
    look.few_ticks(plot)
    for name, color, dash in (("dead", look.BLUE, "solid"), ("saturated", look.ORANGE, [6, 3])):
        line = plot.line("step", name, source=looks, line_color=color, line_width=1.6, line_dash=dash,
                         legend_label=f"{name} units")  # fmt: skip
        plot.scatter("step", name, source=looks, size=4, fill_color=color, line_color=None)
        tips = [("step", "@step{%d}"), (name, f"@{name}{{%.3g}} % in @{name}_in"),
                ("mean of the layers", f"@{name}_mean{{%.3g}} %")]  # fmt: skip
        formats = dict.fromkeys(("@step", f"@{name}", f"@{name}_mean"), "printf")
        plot.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips, formatters=formats))
    look.legend_above(plot)
    return plot


def _largest(looks: ColumnDataSource, plan: _Largest, steps: Any) -> figure:
    axis: dict[str, Any] = {"y_axis_type": "log"} if plan.log else {"y_range": DataRange1d(start=0.0)}
    plot = look.picture("largest activation", 140, steps, **axis)
    plot.yaxis.axis_label = "size"
    look.few_ticks(plot, 3)
    line = plot.line("step", "largest", source=looks, line_color=look.PURPLE, line_width=1.6,
                     legend_label="largest activation")  # fmt: skip
    plot.scatter("step", "largest", source=looks, size=4, fill_color=look.PURPLE, line_color=None)
    tips = [("step", "@step{%d}"), ("largest", "@largest{%.3g} into @largest_in")]
    formats = {"@step": "printf", "@largest": "printf"}
    plot.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips, formatters=formats))
    look.keep_axis(plot, plan.finite, log=plan.log)
    look.legend_above(plot)
    return plot


def overhead_sketch(data: Spent) -> Sketch:
    """Prepare the picture of what steadygrad cost.

    Args:
        data: from `steadygrad.report.page.data.health.spent`.

    Returns:
        Percent of the training's time; the source is named ``overhead``.
    """
    mean = _percent(data.mean)
    columns = {
        "step": data.steps.astype(np.float64),
        "mean": mean,
        "most": _percent(data.most),
        "dot": np.full(mean.size, 4.0 if mean.size < _FEW else 0.0),
    }
    numbers, spent_any = {"overhead": {"data": columns}}, bool((mean > 0).any())
    return Sketch(spent_any, numbers, lambda steps: (_overhead(numbers, steps, spent_any=spent_any),))


def _overhead(numbers: Numbers, steps: Any, *, spent_any: bool) -> figure:
    plot = look.picture("overhead", 150, steps, y_range=DataRange1d(start=0.0))
    plot.yaxis.axis_label, plot.yaxis.formatter = "of the time", PrintfTickFormatter(format=_PERCENT)
    look.few_ticks(plot, 3)
    shares = source(numbers, "overhead")
    plot.varea("step", 0.0, "mean", source=shares, fill_color=look.BLUE, fill_alpha=0.2)
    line = plot.line("step", "mean", source=shares, line_color=look.BLUE, line_width=1.6)
    plot.scatter("step", "mean", source=shares, size="dot", fill_color=look.BLUE, line_color=None)
    plot.add_tools(look.hover(line, ("percent", "mean"), ("at most", "most")))
    look.keep_axis(plot, spent_any, log=False)
    look.label_steps(plot, shown=True)
    return plot
