"""Two runs on the same axes: total norm, loss, learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, DataRange1d, PrintfTickFormatter, Span
from bokeh.plotting import figure

from steadygrad.report.page.data.course import Course
from steadygrad.report.page.data.envelope import Envelope
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.course_plan import MOST_LANES, bad_columns
from steadygrad.report.page.figures.curves import columns, curve

COLORS, HATCHES = (look.BLUE, look.ORANGE), ("right_diagonal_line", "left_diagonal_line")

Pick = Callable[[Course], "Envelope | None"]
Wish = tuple[str, Pick, int]


def pair_figures(
    pair: Sequence[Course], names: Sequence[str], steps: Any, parted: int | None
) -> list[figure]:
    """Draw both runs.

    Args:
        pair: the two courses, on the same columns.
        names: how the legend calls them.
        steps: the range of steps they share.
        parted: step to mark; None marks none.

    Returns:
        Total norm, loss and learning rate, those that either run has.
    """
    wished: list[Wish] = [
        *_each_lane(pair, "total gradient norm", _norm, 260),
        ("loss", lambda one: one.loss, 200),
        *_each_lane(pair, "learning rate", _rate, 130),
    ]
    drawn = [_figure(pair, names, steps, *wish) for wish in wished]
    plots = [plot for plot in drawn if plot is not None]
    for plot in plots:
        if parted is not None:
            plot.add_layout(
                Span(location=float(parted), dimension="height", line_color=look.GREY, line_dash=[4, 3])
            )
        look.label_steps(plot, shown=plot is plots[-1])
    return plots


def _each_lane(
    pair: Sequence[Course], label: str, pick: Callable[[Course, int], Envelope | None], height: int
) -> Iterator[Wish]:
    """One picture an optimizer, its number behind the label where there are several."""
    count = min(max(len(one.lanes) for one in pair), MOST_LANES)
    for lane in range(count):
        yield f"{label} {lane}" if count > 1 else label, partial(_picked, pick, lane), height


def _picked(pick: Callable[[Course, int], Envelope | None], lane: int, one: Course) -> Envelope | None:
    return pick(one, lane)


def _figure(
    pair: Sequence[Course], names: Sequence[str], steps: Any, label: str, pick: Pick, height: int
) -> figure | None:
    known = [pick(one) for one in pair]
    heard = [one.high for one in known if one is not None and one.finite]
    if not heard or (label != "loss" and not any(np.nanmax(values, initial=0.0) > 0 for values in heard)):
        return None
    norm, rate = label.startswith("total gradient norm"), label.startswith("learning rate")
    log = norm or (label == "loss" and look.wants_log(np.concatenate(heard)))
    # A rate that never changes still has an axis that begins at 0, and numbers that can be read.
    axis: dict[str, Any] = {"y_range": DataRange1d(start=0.0)} if rate else {}
    plot = look.picture(f"{label} of both", height, steps, y_axis_type="log" if log else "linear", **axis)
    plot.yaxis.axis_label = label
    look.few_ticks(plot, 3 if rate else 4)
    if label == "loss":
        look.keep_span(plot, np.concatenate(heard))
    if rate:
        plot.yaxis.formatter = PrintfTickFormatter(format="%.3g")
    for series, course, name, color, hatch in zip(known, pair, names, COLORS, HATCHES, strict=True):
        if series is None:
            continue
        source = ColumnDataSource(columns(course.buckets, series, log=log))
        line = curve(plot, source, color, name)
        line.glyph.line_dash = "solid" if color == COLORS[0] else [7, 2]
        plot.add_tools(look.hover(line, (name, "middle"), ("largest", "high")))
        if norm:
            _bad(plot, course, series, color, hatch)
    look.legend_above(plot)
    return plot


def _bad(plot: figure, course: Course, norm: Envelope, color: str, hatch: str) -> None:
    lane = next(lane for lane in course.lanes if lane.norm is norm)
    source = ColumnDataSource(bad_columns(course.buckets, lane.events["nonfinite"]))
    plot.vstrip(
        "left", "right", source=source, fill_color=color, fill_alpha=0.15, line_color=color, line_alpha=0.6,
        hatch_pattern=hatch, hatch_color=look.NONFINITE, hatch_alpha=0.5, hatch_scale=8, level="underlay",
    )  # fmt: skip


def _norm(one: Course, lane: int) -> Envelope | None:
    return one.lanes[lane].norm if lane < len(one.lanes) else None


def _rate(one: Course, lane: int) -> Envelope | None:
    rate = one.lanes[lane].lr if lane < len(one.lanes) else None
    return rate if rate is not None and np.nanmax(rate.high, initial=0.0) > 0 else None
