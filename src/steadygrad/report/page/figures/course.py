"""The course of a run: what was done, total norm, loss and learning rate, one below the other.

Shape legend: C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    DataRange1d,
    FactorRange,
    HoverTool,
    PrintfTickFormatter,
    Scatter,
    TapTool,
)
from bokeh.plotting import figure

from steadygrad.records import BoolArray
from steadygrad.report.cards import Card
from steadygrad.report.page.data.buckets import Buckets
from steadygrad.report.page.data.course import EVENTS, Course, Lane
from steadygrad.report.page.data.envelope import Envelope, stretches
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.curves import columns, curve

NORM_COLORS = (look.BLUE, look.PURPLE, look.GREEN, look.ORANGE)
SEVERITY_COLORS = {"error": look.NONFINITE, "warning": look.ORANGE, "info": look.SKY}
FINDINGS = "findings"
MOST_LANES = 4
LANE_HEIGHT = 24


def course_figures(data: Course, told: Sequence[Card] = (), steps: Any = None) -> list[figure]:
    """Draw the course.

    Args:
        data: from `steadygrad.report.page.data.course.course`.
        told: findings to mark; a click on one sends the browser's event ``steadygrad:finding`` with its number.
        steps: the range of steps that other pictures share; None makes one.

    Returns:
        What happened, total norm, loss (where one was logged), learning rate (where there is one), top to bottom,
        on the same steps. Their sources are named ``norm-0``, ``cap-0``, ``loss``, ``lr-0``, ``events``, ``bad``.
    """
    steps = steps or look.step_range(data.buckets)
    plots = [_norm(data, steps)]
    if data.loss.finite or data.bad_loss.any():
        plots.append(_loss(data, steps))
    if any(np.nanmax(lane.lr.high, initial=0.0) > 0 for lane in data.lanes):
        plots.append(_rate(data, steps))
    if any(lane.events[key].any() for lane in data.lanes for key in EVENTS) or told:
        plots.insert(0, _events(data, told, steps))
    for plot in plots:
        look.label_steps(plot, shown=plot is plots[-1])
    return plots


def event_columns(data: Course) -> dict[str, list[Any]]:
    """What the source ``events`` holds: one entry a stretch of steps in which the same was done."""
    found: dict[str, list[Any]] = {"lane": [], "left": [], "right": [], "color": []}
    for key, name in EVENTS.items():
        hit = (
            np.any([lane.events[key] for lane in data.lanes], axis=0) if data.lanes else np.zeros(0, np.bool_)
        )
        left, right = _borders(data.buckets, hit)
        found["lane"] += [name] * len(left)
        found["left"] += left
        found["right"] += right
        found["color"] += [look.EVENT_COLORS[key]] * len(left)
    return found


def bad_columns(buckets: Buckets, hit: BoolArray) -> dict[str, list[float]]:
    """What the source ``bad`` holds: stretches of steps without a finite number."""
    left, right = _borders(buckets, hit)
    return {"left": left, "right": right}


def _borders(buckets: Buckets, hit: BoolArray) -> tuple[list[float], list[float]]:
    edges = buckets.edges - 0.5
    both = stretches(hit)
    return [float(edges[a]) for a, _ in both], [float(edges[b]) for _, b in both]


def _events(data: Course, told: Sequence[Card], steps: Any) -> figure:
    found = event_columns(data)
    names = [name for name in EVENTS.values() if name in found["lane"]]
    lanes = [*reversed(names), *([FINDINGS] if told else [])]
    plot = look.picture("what happened", 26 + LANE_HEIGHT * len(lanes), steps, y_range=FactorRange(*lanes))
    plot.min_border_top = 8
    source = ColumnDataSource(found, name="events")
    plot.hbar("lane", left="left", right="right", height=0.55, source=source, color="color", line_width=1.5)
    if told:
        _marks(plot, told)
    plot.ygrid.grid_line_color = None
    plot.yaxis.major_tick_line_color = None
    return plot


def _marks(plot: figure, told: Sequence[Card]) -> None:
    """A numbered disc for each finding; the number is also on its card."""
    source = ColumnDataSource(
        {
            "step": [float(card.step) for card in told],
            "lane": [FINDINGS] * len(told),
            "number": [str(card.place) for card in told],
            "title": [card.title for card in told],
            "color": [SEVERITY_COLORS[card.severity] for card in told],
        },
        name="findings",
    )
    disc = plot.scatter("step", "lane", source=source, size=19, fill_color="color", line_color="white")
    disc.nonselection_glyph = disc.glyph
    disc.selection_glyph = Scatter(
        x="step", y="lane", size=23, fill_color="color", line_color=look.GREY, line_width=3
    )
    plot.text(
        "step", "lane", "number", source=source, text_align="center", text_baseline="middle",
        text_font_size="11px", text_font_style="bold", text_color="white",
    )  # fmt: skip
    tap = TapTool(renderers=[disc], callback=CustomJS(args={"source": source}, code=_OPEN))
    plot.add_tools(
        tap, HoverTool(renderers=[disc], tooltips=[("finding @number", "@title"), ("step", "@step{0,0}")])
    )


_OPEN = """
const at = source.selected.indices[0]
if (at !== undefined) {
  const detail = Number(source.data.number[at])
  source.selected.indices = []
  document.dispatchEvent(new CustomEvent("steadygrad:finding", {detail}))
}
"""


def _norm(data: Course, steps: Any) -> figure:
    plot = look.picture("total norm", 250, steps, y_axis_type="log")
    plot.yaxis.axis_label = "total gradient norm"
    look.few_ticks(plot, 5)
    several = len(data.lanes) > 1
    for lane, color in zip(data.lanes[:MOST_LANES], NORM_COLORS, strict=False):
        label = f"optimizer {lane.optimizer}" if several else "total norm"
        _norm_curve(plot, data.buckets, lane, color, label)
        cap = ColumnDataSource(columns(data.buckets, lane.cap, log=True), name=f"cap-{lane.optimizer}")
        if lane.cap.finite:
            named = f"cap {lane.optimizer}" if several else "cap"
            own = color if several else look.ORANGE
            plot.line("step", "middle", source=cap, line_color=own, line_dash=[5, 3], legend_label=named)
    look.keep_axis(plot, any(np.nanmax(lane.norm.high, initial=0.0) > 0 for lane in data.lanes), log=True)
    _bad(plot, data.buckets, _nonfinite(data))
    look.legend_above(plot)
    return plot


def _nonfinite(data: Course) -> BoolArray:
    if not data.lanes:
        return np.zeros(data.buckets.count, np.bool_)
    hit: BoolArray = np.any([lane.events["nonfinite"] for lane in data.lanes], axis=0)
    return hit


def _norm_curve(plot: figure, buckets: Buckets, lane: Lane, color: str, label: str) -> None:
    source = ColumnDataSource(columns(buckets, lane.norm, log=True), name=f"norm-{lane.optimizer}")
    line = curve(plot, source, color, label)
    plot.add_tools(look.hover(line, (label, "middle"), ("smallest", "low"), ("largest", "high")))


def _bad(plot: figure, buckets: Buckets, hit: BoolArray) -> None:
    """A hatched band over the steps without a finite number: they have no place on the axis."""
    source = ColumnDataSource(bad_columns(buckets, hit), name="bad")
    named = {"legend_label": "non-finite"} if hit.any() else {}
    plot.vstrip(
        "left", "right", source=source, fill_color=look.NONFINITE, fill_alpha=0.1, line_color=look.NONFINITE,
        line_alpha=0.5, hatch_pattern="right_diagonal_line", hatch_color=look.NONFINITE, hatch_alpha=0.3,
        hatch_scale=8, level="underlay", **named,
    )  # fmt: skip


def _loss(data: Course, steps: Any) -> figure:
    log = look.wants_log(np.concatenate([data.loss.low, data.loss.high]))
    plot = look.picture("loss", 190, steps, y_axis_type="log" if log else "linear")
    plot.yaxis.axis_label = "loss"
    look.few_ticks(plot)
    source = ColumnDataSource(columns(data.buckets, data.loss, log=log), name="loss")
    line = curve(plot, source, look.GREEN, "loss")
    plot.add_tools(look.hover(line, ("loss", "middle"), ("largest", "high")))
    look.keep_axis(plot, data.loss.finite, log=log)
    look.keep_span(plot, data.loss.high)
    _bad(plot, data.buckets, data.bad_loss)
    look.legend_above(plot)
    return plot


def _rate(data: Course, steps: Any) -> figure:
    plot = look.picture("learning rate", 130, steps, y_range=DataRange1d(start=0.0))
    plot.yaxis.formatter = PrintfTickFormatter(format="%.3g")
    look.few_ticks(plot, 3)
    plot.yaxis.axis_label = "learning rate"
    several = len(data.lanes) > 1
    for lane, color in zip(data.lanes[:MOST_LANES], NORM_COLORS, strict=False):
        label = f"optimizer {lane.optimizer}" if several else "learning rate"
        source = ColumnDataSource(columns(data.buckets, lane.lr), name=f"lr-{lane.optimizer}")
        line = plot.line(
            "step", "middle", source=source, line_color=color, line_width=1.6, legend_label=label
        )
        plot.scatter("step", "lone", source=source, fill_color=color, line_color=None, size=5)
        if _differs(lane.lr, lane.used_lr):
            used = ColumnDataSource(columns(data.buckets, lane.used_lr), name=f"used-lr-{lane.optimizer}")
            plot.line(
                "step", "low", source=used, line_color=look.RED, line_dash=[5, 3], legend_label="as lowered"
            )
        plot.add_tools(look.hover(line, (label, "middle")))
    look.legend_above(plot)
    return plot


def _differs(one: Envelope, other: Envelope) -> bool:
    return bool((np.nan_to_num(one.low) != np.nan_to_num(other.low)).any())
