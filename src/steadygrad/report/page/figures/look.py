"""What all pictures have in common: size, axes, colours, tools.

Colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart, a little lighter
where a dark background asks for it. What lies around the data (text, grid, frame) takes its colour from the page:
Bokeh reads custom properties such as ``--bk-axis-label-text-color``, so one picture serves light and dark.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.models import (
    AdaptiveTicker,
    BasicTickFormatter,
    BoxZoomTool,
    DataRange1d,
    GlyphRenderer,
    HoverTool,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.plotting import figure

from steadygrad.report.page.data.buckets import Buckets, Float64Array

BLUE, ORANGE, GREEN, RED = "#2f86c5", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE, GREY = "#56b4e9", "#cc79a7", "#8a9099"
NONFINITE = "#e8323c"
INK = "ink"
"""Tag of glyphs that are text: the page colours them, because a style sheet can't."""

CONTROL = """
:host { color: var(--quiet, inherit); font: inherit; }
select.bk-input:not([multiple]):not([size]) { appearance: auto; background-image: none; }
.bk-input { color: var(--ink, #1b2027); background-color: var(--surface, #fff); border-color: var(--line, #ccc); }
.bk-input:focus-visible { outline: 2px solid var(--accent, #1765a3); outline-offset: 2px; }
.noUi-target { background: var(--line, #ddd); border: 0; box-shadow: none; }
.noUi-handle { background: var(--surface, #fff); border: 2px solid var(--quiet, #888); border-radius: 50%; box-shadow: none; }
.noUi-handle::before, .noUi-handle::after { display: none; }
.noUi-handle:focus-visible { outline: 2px solid var(--accent, #1765a3); outline-offset: 2px; }
.bk-slider-title { color: var(--ink, #1b2027); }
"""
"""Controls take their colours from the page around them."""

LEFT = 118
"""Pixels left of every frame, so that steps lie exactly below one another."""

MARGIN = 0.046
"""Share of the steps left free at either end, so that the mark of a finding at the first step is whole."""

EVENT_COLORS = {
    "nonfinite": NONFINITE,
    "skipped": ORANGE,
    "rolled_back": PURPLE,
    "clipped": SKY,
    "overflow": GREY,
}


def step_range(columns: Buckets) -> Range1d:
    """The range of steps that pictures share; its tag has the first and the last step, for what is said of it."""
    first, last = columns.start, columns.stop - 1
    half = 0.5 if columns.width <= 1 else columns.width / 2
    free = MARGIN * max(last - first + 2 * half, 1.0)
    start, end = first - half - free, max(last + half, first - half + 1) + free
    return Range1d(start, end, bounds=(start, end), name="steps", tags=[{"steps": [first, last]}])


def picture(name: str, height: int, x_range: Any, **more: Any) -> figure:
    """An empty picture as wide as the page.

    Args:
        name: the model's name, by which page and server find it.
        height: in pixels.
        x_range: shared by all that show the same steps.
        **more: further arguments of `bokeh.plotting.figure`.

    Returns:
        The picture.
    """
    wheel = WheelZoomTool(dimensions="width")
    plot = figure(
        name=name,
        height=height,
        sizing_mode="stretch_width",
        x_range=x_range,
        tools=[BoxZoomTool(dimensions="width"), PanTool(dimensions="width"), wheel, ResetTool()],
        min_border_left=LEFT,
        min_border_right=16,
        toolbar_location=None,
        **more,
    )
    _quiet(plot)
    return plot


def _quiet(plot: figure) -> None:
    """No frame, a grid that stays behind the data, small grey text."""
    plot.outline_line_color = None
    plot.background_fill_color = plot.border_fill_color = None
    for axis in plot.axis:
        axis.axis_line_color = axis.minor_tick_line_color = None
        axis.major_tick_line_color = "#9aa0a6"
        axis.major_tick_in, axis.major_tick_out = 0, 4
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px"
    plot.grid.grid_line_color = "#9aa0a6"
    plot.grid.grid_line_alpha = 0.25
    plot.xgrid.grid_line_color = None
    if isinstance(plot.xaxis.ticker, AdaptiveTicker):
        plot.xaxis.ticker.min_interval = 1  # nothing lies between two steps, layers or samples
    if isinstance(plot.xaxis.formatter, BasicTickFormatter):
        plot.xaxis.formatter.use_scientific = False


def label_steps(plot: figure, *, shown: bool) -> None:
    """Write steps below a picture, or leave them to the one below it."""
    plot.xaxis.visible = shown
    if shown:
        plot.xaxis.axis_label = "step"


def few_ticks(plot: figure, count: int = 4) -> None:
    """As many numbers beside a low picture as can be read."""
    plot.yaxis.ticker.desired_num_ticks = count
    plot.yaxis.ticker.num_minor_ticks = 0


def legend_above(plot: figure) -> None:
    """Put the legend above the frame, where it hides nothing; a click hides a curve."""
    if not plot.legend:
        return
    legend = plot.legend[0]
    plot.add_layout(legend, "above")
    legend.orientation, legend.click_policy = "horizontal", "hide"
    legend.border_line_color = legend.background_fill_color = None
    legend.label_text_font_size, legend.padding, legend.margin, legend.spacing = "12px", 0, 0, 14


def hover(line: GlyphRenderer, *fields: tuple[str, str]) -> HoverTool:
    """Tell the numbers of the column under the pointer.

    Args:
        line: what is hovered.
        *fields: name shown and column of the source, one pair a number.

    Returns:
        The tool.
    """
    tips = [("step", "@step{%d}"), *((name, f"@{column}{{%.4g}}") for name, column in fields)]
    formats = {"@step": "printf", **{f"@{column}": "printf" for _, column in fields}}
    return HoverTool(
        renderers=[line],
        mode="vline",
        tooltips=tips,
        formatters=formats,
        line_policy="nearest",
        attachment="below",
    )


def positive(values: Float64Array) -> Float64Array:
    """Values for a logarithmic axis: what isn't above zero has no place on it."""
    return np.where(values > 0, values, np.nan)


def keep_axis(plot: figure, drawn: bool, *, log: bool) -> None:  # noqa: FBT001 - read as a sentence
    """Give a picture without a single finite number an axis; Bokeh finds none by itself."""
    if not drawn:
        plot.y_range = Range1d(1e-3, 1e3) if log else Range1d(0.0, 1.0)


def keep_span(plot: figure, values: Float64Array) -> None:
    """Give numbers that are all alike an axis around them; Bokeh's would tell them apart by their last digits."""
    if np.isfinite(values).any() and isinstance(plot.y_range, DataRange1d):
        plot.y_range.default_span = span_of(values)


def span_of(values: Float64Array) -> float:
    """How much an axis spans on which they are all alike."""
    known = np.abs(values[np.isfinite(values)])
    return float(min(known.max(initial=0.0), 1e300)) or 1.0


def wants_log(values: Float64Array) -> bool:
    """Whether a curve spans so much that only a logarithmic axis shows all of it."""
    known = values[np.isfinite(values)]
    return bool(known.size and known.min() > 0 and known.max() / 30 > known.min())
