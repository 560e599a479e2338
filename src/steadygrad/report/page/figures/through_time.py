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
from steadygrad.report.page.figures.sketch import Numbers, Sketch, source
from steadygrad.report.page.figures.step_slider import choices, step_slider
from steadygrad.report.wording import number, visible

COLORS, DASHES = (look.BLUE, look.ORANGE, look.GREEN, look.PURPLE), ("solid", [7, 3], [2, 3], [7, 3, 2, 3])
FLOAT32_EPS = 2.0**-23
LEAST = 1e-30


def through_time_sketch(data: Passages) -> Sketch:
    """Prepare the gradient through time.

    Args:
        data: from `steadygrad.report.page.data.passages.passages`.

    Returns:
        A slider over steps, what the chosen one says, and the picture, one below the other. The first time step is on
        the left.
    """
    names = tuple(_called(module) for module in data.modules[: len(COLORS)])
    numbers = _numbers(data)
    return Sketch(names, numbers, lambda _: (_layout(names, numbers),))


def _numbers(data: Passages) -> dict[str, dict[str, Any]]:
    """Every step to choose from, and one scale for all: what the slider moves is the run, not the axis."""
    longest = max(one.length for each in data.looks for one in each.through_time)
    norms = [norm for each in data.looks for one in each.through_time for norm in one.norms if norm > 0]
    notes = [told_through_time(one) for one in data.looks]
    every = {**_all(data), **choices([one.step for one in data.looks], notes, data.shown)}
    return {
        "time steps": {"start": -0.5, "end": longest - 0.5},
        "time norms": {"start": max(min(norms, default=0.1) / 2, LEAST), "end": 2.0},
        "passages": {"data": every},
    }


def _layout(names: tuple[str, ...], numbers: Numbers) -> Column:
    plot, every = _axes(numbers), source(numbers, "passages")
    at, lines = every.data["shown"].index(True), []
    for i, (name, color, dash) in enumerate(zip(names, COLORS, DASHES, strict=False)):
        begin = {"time": every.data[f"time {i}"][at], "norm": every.data[f"norm {i}"][at]}
        points = ColumnDataSource(begin)
        line = plot.line("time", "norm", source=points, line_color=color, line_width=2, line_dash=dash,
                         legend_label=name)  # fmt: skip
        plot.scatter("time", "norm", source=points, size=4, fill_color=color, line_color=None)
        tips = [(name, "@norm{%.2e}"), ("time step", "@time{%d}")]
        formats = {"@norm": "printf", "@time": "printf"}
        plot.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips, formatters=formats))
        lines.append(points)
    plot.add_layout(Span(location=FLOAT32_EPS, line_color=look.GREY, line_dash=[4, 3]))
    look.legend_above(plot)
    slider, note = step_slider(every, {"lines": lines}, "through_time.js")
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


def _axes(numbers: Numbers) -> figure:
    steps, norms = (Range1d(**numbers[name], name=name) for name in ("time steps", "time norms"))
    plot = look.picture("through time", 260, steps, y_axis_type="log", y_range=norms)
    plot.xaxis.axis_label = "time steps: first left, last right"
    plot.yaxis.axis_label = "relative to the largest"
    look.few_ticks(plot, 5)
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
