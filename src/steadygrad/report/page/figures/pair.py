"""Two runs on the same axes: total norm, loss, learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, Span
from bokeh.plotting import figure

from steadygrad.report.page.data.course import Course
from steadygrad.report.page.data.envelope import Envelope
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.course import bad_columns
from steadygrad.report.page.figures.curves import columns, curve

COLORS, HATCHES = (look.BLUE, look.ORANGE), ("right_diagonal_line", "left_diagonal_line")

Pick = Callable[[Course], "Envelope | None"]


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
    wished: tuple[tuple[str, Pick, int], ...] = (
        ("total gradient norm", _norm, 260),
        ("loss", lambda one: one.loss, 200),
        ("learning rate", _rate, 130),
    )
    drawn = [_figure(pair, names, steps, *wish) for wish in wished]
    plots = [plot for plot in drawn if plot is not None]
    for plot in plots:
        if parted is not None:
            plot.add_layout(
                Span(location=float(parted), dimension="height", line_color=look.GREY, line_dash=[4, 3])
            )
        look.label_steps(plot, shown=plot is plots[-1])
    return plots


def _figure(
    pair: Sequence[Course], names: Sequence[str], steps: Any, label: str, pick: Pick, height: int
) -> figure | None:
    known = [pick(one) for one in pair]
    heard = [one.high for one in known if one is not None and one.finite]
    if not any(np.nanmax(values, initial=0.0) > 0 for values in heard) and label != "loss":
        return None
    if not heard:
        return None
    log = label == "total gradient norm" or (label == "loss" and look.wants_log(np.concatenate(heard)))
    plot = look.picture(f"{label} of both", height, steps, y_axis_type="log" if log else "linear")
    plot.yaxis.axis_label = label
    look.few_ticks(plot, 4 if height > 150 else 3)
    for series, course, name, color, hatch in zip(known, pair, names, COLORS, HATCHES, strict=True):
        if series is None:
            continue
        source = ColumnDataSource(columns(course.buckets, series, log=log))
        line = curve(plot, source, color, name)
        line.glyph.line_dash = "solid" if color == COLORS[0] else [7, 2]
        plot.add_tools(look.hover(line, (name, "middle"), ("largest", "high")))
        if label == "total gradient norm" and course.lanes:
            _bad(plot, course, color, hatch)
    look.legend_above(plot)
    return plot


def _bad(plot: figure, course: Course, color: str, hatch: str) -> None:
    source = ColumnDataSource(bad_columns(course.buckets, course.lanes[0].events["nonfinite"]))
    plot.vstrip(
        "left", "right", source=source, fill_color=color, fill_alpha=0.15, line_color=color, line_alpha=0.6,
        hatch_pattern=hatch, hatch_color=look.NONFINITE, hatch_alpha=0.5, hatch_scale=8, level="underlay",
    )  # fmt: skip


def _norm(one: Course) -> Envelope | None:
    return one.lanes[0].norm if one.lanes else None


def _rate(one: Course) -> Envelope | None:
    return one.lanes[0].lr if one.lanes and np.nanmax(one.lanes[0].lr.high, initial=0.0) > 0 else None
