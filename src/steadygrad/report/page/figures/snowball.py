"""The snowball: gradient norm against depth at one step, with a slider over steps.

Shape legend: L weights in forward order, S steps to choose from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import (
    Column,
    ColumnDataSource,
    Div,
    FixedTicker,
    HoverTool,
    LegendItem,
    NoOverlap,
    Range1d,
    Slider,
)
from bokeh.plotting import figure

from steadygrad.report.page.data.buckets import Float64Array
from steadygrad.report.page.data.depth import Snowball
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.step_slider import step_slider
from steadygrad.report.profile import Profile
from steadygrad.report.wording import layer, number, visible

MOST_TICKS, MOST_NAMED = 20, 10
DOTS = ((60, 6), (300, 4), (1000, 2))
"""Weights up to which a dot has so many pixels: those of thousands would be a band."""
STRETCH, LOST = "stretch that carries it", "non-finite"


def snowball_figure(data: Snowball) -> Column:
    """Draw the snowball.

    Args:
        data: from `steadygrad.report.page.data.depth.snowball`.

    Returns:
        A slider over steps, what the chosen one says, and the picture. The input is on the left.
    """
    begin = data.profiles[data.shown]
    plot = _axes(data)
    place = np.arange(len(data.names))
    usual = {"depth": place, "name": list(data.names), "norm": look.positive(data.usual)}
    plot.line("depth", "norm", source=ColumnDataSource(usual), line_color=look.GREY, line_dash=[4, 3],
              legend_label="usual")  # fmt: skip
    line = ColumnDataSource({**usual, "norm": _drawn(begin.norms)}, name="snowball")
    stretch = ColumnDataSource(_stretch(begin), name="stretch")
    bad = ColumnDataSource({"depth": _bad(begin)}, name="bad layers")
    _draw(plot, line, stretch, bad)
    marks = [
        next(item for item in plot.legend[0].items if item.label.value == label) for label in (STRETCH, LOST)
    ]
    for item, source in zip(marks, (stretch, bad), strict=True):
        item.visible = len(source.data["depth"]) > 0
    slider, note = _controls(data, line, stretch, bad, marks)
    return column(slider, note, plot, sizing_mode="stretch_width")


def _axes(data: Snowball) -> figure:
    plot = look.picture("snowball", 300, Range1d(-0.5, len(data.names) - 0.5), y_axis_type="log")
    plot.xaxis.axis_label = "weights: input left, loss right"
    look.few_ticks(plot, 5)
    _name_weights(plot, data.names)
    plot.yaxis.axis_label = "gradient norm"
    known = np.concatenate([data.usual, *(profile.norms for profile in data.profiles)])
    known = known[np.isfinite(known) & (known > 0)]
    look.keep_axis(plot, bool(known.size), log=True)
    if known.size:
        # One scale for all steps: what the slider moves is the run, not the axis.
        plot.y_range = Range1d(float(max(known.min() / 1.6, 1e-300)), float(min(known.max() * 1.6, 1e300)))
    return plot


def _name_weights(plot: figure, names: tuple[str, ...]) -> None:
    """Names below a few weights, numbers below many."""
    every = max(1, -(-len(names) // MOST_TICKS))
    plot.xaxis.ticker = FixedTicker(ticks=list(range(0, len(names), every)))
    plot.xaxis.major_label_policy = NoOverlap()
    if len(names) <= MOST_NAMED:
        short = [layer(name.removesuffix(".weight").replace(".weight_", " ")) for name in names]
        plot.xaxis.major_label_overrides = {
            place: name if len(name) <= 14 else "…" + name[-13:] for place, name in enumerate(short)
        }


def _draw(plot: figure, line: ColumnDataSource, stretch: ColumnDataSource, bad: ColumnDataSource) -> None:
    plot.line("depth", "norm", source=line, line_color=look.BLUE, line_width=2, legend_label="this step")
    count = len(line.data["depth"])
    size = next((size for most, size in DOTS if count <= most), 1)
    dots = plot.scatter("depth", "norm", source=line, size=size, fill_color=look.BLUE, line_color=None)
    plot.line("depth", "norm", source=stretch, line_color=look.RED, line_width=6, line_alpha=0.45,
              legend_label=STRETCH)  # fmt: skip
    plot.vspan(x="depth", source=bad, line_color=look.NONFINITE, line_width=3, line_alpha=0.7,
               legend_label=LOST)  # fmt: skip
    tips = [("weight", "@name"), ("gradient norm", "@norm{%.3e}")]
    plot.add_tools(HoverTool(renderers=[dots], tooltips=tips, formatters={"@norm": "printf"}))
    look.legend_above(plot)


def _controls(
    data: Snowball,
    line: ColumnDataSource,
    stretch: ColumnDataSource,
    bad: ColumnDataSource,
    marks: Sequence[LegendItem],
) -> tuple[Slider, Div]:
    steps = [profile.step for profile in data.profiles]
    profiles = ColumnDataSource(
        {
            "logs": [np.log10(_drawn(profile.norms)).astype(np.float32) for profile in data.profiles],
            "bad": [_bad(profile) for profile in data.profiles],
        },
        name="profiles",
    )
    args: dict[str, Any] = {
        "profiles": profiles, "line": line, "stretch": stretch, "bad": bad, "marks": list(marks),
        "firsts": [profile.first for profile in data.profiles],
        "lasts": [profile.last for profile in data.profiles],
        "telling": [profile.telling for profile in data.profiles],
    }  # fmt: skip
    notes = [told(profile, data.names) for profile in data.profiles]
    return step_slider(steps, notes, data.shown, args, "snowball.js")


def told(profile: Profile, names: tuple[str, ...]) -> str:
    """What one step says, in words.

    Example:
        >>> told(Profile(4, np.array([8.0, 4.0, 2.0]), 2.0, 0, 2, 4.0), ("a", "b", "c"))
        'Step 4: each weight back multiplies the gradient norm by 2.'
    """
    lost = int(np.isinf(profile.norms).sum())
    bad = f" {lost:,} of {len(names):,} weights are non-finite." if lost else ""
    if not np.isfinite(profile.norms).any():
        return f"Step {profile.step:,}: no weight has a finite gradient."
    growth = f"each weight back multiplies the gradient norm by {number(profile.per_layer)}"
    if not profile.telling:
        return f"Step {profile.step:,}: {growth}.{bad}"
    ends = f"from {visible(names[profile.last])} back to {visible(names[profile.first])}"
    each = number(profile.factor ** (1 / (profile.last - profile.first)))
    return f"Step {profile.step:,}: {growth}; x{each} each {ends}, x{number(profile.factor)} in all.{bad}"


def _drawn(norms: Float64Array) -> Float64Array:
    return np.where(np.isfinite(norms), look.positive(norms), np.nan)


def _bad(profile: Profile) -> list[int]:
    return [int(i) for i in np.flatnonzero(np.isinf(profile.norms))]


def _stretch(profile: Profile) -> dict[str, Any]:
    part = np.arange(profile.first, profile.last + 1) if profile.telling else np.zeros(0, np.int64)
    return {"depth": part, "norm": _drawn(profile.norms)[part]}
