"""The snowball: gradient norm against depth at one step, with a slider over steps.

Shape legend: L weights in forward order, S steps to choose from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import (
    Column,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    NoOverlap,
    Range1d,
)
from bokeh.plotting import figure

from steadygrad.report.page.data.buckets import Float64Array
from steadygrad.report.page.data.depth import Snowball
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.sketch import Numbers, Sketch, source
from steadygrad.report.page.figures.step_slider import choices, step_slider
from steadygrad.report.profile import Profile
from steadygrad.report.wording import layer, number, visible

MOST_TICKS, MOST_NAMED = 20, 10
DOTS = ((60, 6), (300, 4), (1000, 2))
"""Weights up to which a dot has so many pixels: those of thousands would be a band."""
STRETCH, LOST = "stretch that carries it", "non-finite"


def snowball_sketch(data: Snowball) -> Sketch:
    """Prepare the snowball.

    Args:
        data: from `steadygrad.report.page.data.depth.snowball`.

    Returns:
        A slider over steps, what the chosen one says, and the picture, one below the other. The input is on the left.
    """
    numbers, names = _numbers(data), data.names
    return Sketch(names, numbers, lambda _: (_layout(names, numbers),))


def _numbers(data: Snowball) -> dict[str, dict[str, Any]]:
    """Every step to choose from, and one scale for all: what the slider moves is the run, not the axis."""
    profiles = data.profiles
    notes = [told(profile, data.names) for profile in profiles]
    every: dict[str, Any] = {
        "logs": [np.log10(_drawn(profile.norms)).astype(np.float32) for profile in profiles],
        "bad": [_bad(profile) for profile in profiles],
        "first": [profile.first for profile in profiles],
        "last": [profile.last for profile in profiles],
        "telling": [profile.telling for profile in profiles],
        **choices([profile.step for profile in profiles], notes, data.shown),
    }
    usual = {"depth": np.arange(len(data.names)), "norm": look.positive(data.usual)}
    return {"usual": {"data": usual}, "norms": _scale(data), "profiles": {"data": every}}


def _scale(data: Snowball) -> dict[str, float]:
    known = np.concatenate([data.usual, *(profile.norms for profile in data.profiles)])
    known = known[np.isfinite(known) & (known > 0)]
    if not known.size:
        return {"start": 1e-3, "end": 1e3}
    return {"start": float(max(known.min() / 1.6, 1e-300)), "end": float(min(known.max() * 1.6, 1e300))}


def _layout(names: tuple[str, ...], numbers: Numbers) -> Column:
    plot, every = _axes(names, numbers["norms"]), source(numbers, "profiles")
    plot.line("depth", "norm", source=source(numbers, "usual"), line_color=look.GREY, line_dash=[4, 3],
              legend_label="usual")  # fmt: skip
    line, stretch, bad = _begin(names, every)
    _draw(plot, line, stretch, bad)
    marks = [
        next(item for item in plot.legend[0].items if item.label.value == label) for label in (STRETCH, LOST)
    ]
    for item, drawn in zip(marks, (stretch, bad), strict=True):
        item.visible = len(drawn.data["depth"]) > 0
    args = {"line": line, "stretch": stretch, "bad": bad, "marks": marks}
    slider, note = step_slider(every, args, "snowball.js")
    return column(slider, note, plot, sizing_mode="stretch_width")


def _begin(names: tuple[str, ...], every: ColumnDataSource) -> tuple[ColumnDataSource, ...]:
    """The step to begin with: its line, the stretch that carries it, what is non-finite."""
    data = every.data
    at = data["shown"].index(True)
    norms = 10.0 ** data["logs"][at].astype(np.float64)
    line = {"depth": np.arange(len(names)), "name": list(names), "norm": norms}
    part = (
        np.arange(data["first"][at], data["last"][at] + 1) if data["telling"][at] else np.zeros(0, np.int64)
    )
    return (
        ColumnDataSource(line, name="snowball"),
        ColumnDataSource({"depth": part, "norm": norms[part]}, name="stretch"),
        ColumnDataSource({"depth": data["bad"][at]}, name="bad layers"),
    )


def _axes(names: tuple[str, ...], scale: Mapping[str, float]) -> figure:
    plot = look.picture("snowball", 300, Range1d(-0.5, len(names) - 0.5), y_axis_type="log",
                        y_range=Range1d(**scale, name="norms"))  # fmt: skip
    plot.xaxis.axis_label = "weights: input left, loss right"
    look.few_ticks(plot, 5)
    _name_weights(plot, names)
    plot.yaxis.axis_label = "gradient norm"
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
