"""The gradient on its way back through the time steps of recurrent modules, at one step of the training.

Shape legend: S steps to choose from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import Column, ColumnDataSource, HoverTool, Range1d, Span
from bokeh.plotting import figure

from steadygrad.records import Look, Passage
from steadygrad.report.page.data.passages import Passages
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.step_slider import step_slider
from steadygrad.report.wording import number, visible

COLORS, DASHES = (look.BLUE, look.ORANGE, look.GREEN, look.PURPLE), ("solid", [7, 3], [2, 3], [7, 3, 2, 3])
FLOAT32_EPS = 2.0**-23
LEAST = 1e-30


def through_time_figure(data: Passages) -> Column:
    """Draw the gradient through time.

    Args:
        data: from `steadygrad.report.page.data.passages.passages`.

    Returns:
        A slider over steps, what the chosen one says, and the picture. The first time step is on the left.
    """
    plot = _axes(data)
    begin, lines = data.looks[data.shown], []
    for module, color, dash in zip(data.modules, COLORS, DASHES, strict=False):
        source = ColumnDataSource(_points(data.of(begin, module)))
        name = _called(module)
        line = plot.line("time", "norm", source=source, line_color=color, line_width=2, line_dash=dash,
                         legend_label=name)  # fmt: skip
        plot.scatter("time", "norm", source=source, size=4, fill_color=color, line_color=None)
        tips = [(name, "@norm{%.2e}"), ("time step", "@time{%d}")]
        formats = {"@norm": "printf", "@time": "printf"}
        plot.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips, formatters=formats))
        lines.append(source)
    plot.add_layout(Span(location=FLOAT32_EPS, line_color=look.GREY, line_dash=[4, 3]))
    look.legend_above(plot)
    steps = [one.step for one in data.looks]
    notes = [told_through_time(one) for one in data.looks]
    args: dict[str, Any] = {"lines": lines, "passages": ColumnDataSource(_all(data), name="passages")}
    slider, note = step_slider(steps, notes, data.shown, args, "through_time.js")
    return column(slider, note, plot, sizing_mode="stretch_width")


def told_through_time(one: Look) -> str:
    """What one step says, in words.

    Example:
        >>> told_through_time(Look(8, through_time=(Passage("rnn", 3, (4e-4, 2e-2, 1.0), 0.02),)))
        'Step 8: each time step back multiplies the gradient by 0.02 in rnn, 0.0004 over 3 time steps.'
    """
    parts = [
        f"by {number(each.gain)} in {_called(each.module)}, {number(_whole(each))} over {each.length:,} time steps"
        for each in one.through_time
    ]
    return f"Step {one.step:,}: each time step back multiplies the gradient {'; '.join(parts)}."


def _whole(one: Passage) -> float:
    """Gradient at the first time step relative to that at the last the loss reads; NaN where either is 0."""
    last = next((norm for norm in reversed(one.norms) if norm > 0), float("nan"))
    return one.norms[0] / last if one.norms and one.norms[0] > 0 else float("nan")


def _called(module: str) -> str:
    return visible(module) or "the model"


def _axes(data: Passages) -> figure:
    longest = max(one.length for each in data.looks for one in each.through_time)
    plot = look.picture("through time", 260, Range1d(-0.5, longest - 0.5), y_axis_type="log")
    plot.xaxis.axis_label = "time steps: first left, last right"
    plot.yaxis.axis_label = "relative to the largest"
    look.few_ticks(plot, 5)
    norms = [norm for each in data.looks for one in each.through_time for norm in one.norms if norm > 0]
    # One scale for all steps: what the slider moves is the run, not the axis.
    plot.y_range = Range1d(max(min(norms, default=0.1) / 2, LEAST), 2.0)
    return plot


def _points(one: Passage | None) -> dict[str, Any]:
    if one is None:
        return {"time": [], "norm": []}
    return {"time": list(one.places), "norm": look.positive(np.array(one.norms, np.float64))}


def _all(data: Passages) -> dict[str, Any]:
    """Every line of every step, ``[S]`` each."""
    found: dict[str, Any] = {}
    for i, module in enumerate(data.modules):
        points = [_points(data.of(one, module)) for one in data.looks]
        found[f"time {i}"] = [each["time"] for each in points]
        found[f"norm {i}"] = [each["norm"] for each in points]
    return found
