"""The course of a run: what was done, total norm, loss and learning rate, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bokeh.models import CustomJS, DataRange1d, FactorRange, HoverTool, PrintfTickFormatter, Scatter, TapTool
from bokeh.plotting import figure

from steadygrad.report.cards import Card
from steadygrad.report.page.data.course import Course
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.course_plan import (
    FINDINGS,
    LOSS_AXIS,
    CoursePlan,
    LanePlan,
    LossPlan,
    course_numbers,
    course_plan,
)
from steadygrad.report.page.figures.curves import curve
from steadygrad.report.page.figures.sketch import Numbers, Sketch, source

NORM_COLORS = (look.BLUE, look.PURPLE, look.GREEN, look.ORANGE)
LANE_HEIGHT = 24


def course_sketch(data: Course, told: Sequence[Card] = ()) -> Sketch:
    """Prepare the course.

    Args:
        data: from `steadygrad.report.page.data.course.course`.
        told: findings to mark; a click on one sends the browser's event ``steadygrad:finding`` with its number.

    Returns:
        What happened, total norm, loss (where one was logged), learning rate (where there is one), top to bottom,
        on the same steps.
    """
    plan = course_plan(data, told)
    numbers = course_numbers(data, told, plan)
    return Sketch(plan, numbers, lambda steps: tuple(_figures(plan, numbers, steps)))


def _figures(plan: CoursePlan, numbers: Numbers, steps: Any) -> list[figure]:
    plots = [_events(plan, numbers, steps)] if plan.events else []
    plots.append(_norm(plan, numbers, steps))
    if plan.loss is not None:
        plots.append(_loss(plan.loss, numbers, steps))
    if plan.rate:
        plots.append(_rate(plan, numbers, steps))
    for plot in plots:
        look.label_steps(plot, shown=plot is plots[-1])
    return plots


def _events(plan: CoursePlan, numbers: Numbers, steps: Any) -> figure:
    height = 26 + LANE_HEIGHT * len(plan.events)
    plot = look.picture("what happened", height, steps, y_range=FactorRange(*plan.events))
    plot.min_border_top = 8
    done = source(numbers, "events")
    plot.hbar("lane", left="left", right="right", height=0.55, source=done, color="color", line_width=1.5)
    if FINDINGS in plan.events:
        _marks(plot, numbers)
    plot.ygrid.grid_line_color = None
    plot.yaxis.major_tick_line_color = None
    return plot


def _marks(plot: figure, numbers: Numbers) -> None:
    """A numbered disc for each finding; the number is also on its card."""
    told = source(numbers, "findings")
    disc = plot.scatter("step", "lane", source=told, size=19, fill_color="color", line_color="white")
    disc.nonselection_glyph = disc.glyph
    disc.selection_glyph = Scatter(
        x="step", y="lane", size=23, fill_color="color", line_color=look.GREY, line_width=3
    )
    plot.text(
        "step", "lane", "number", source=told, text_align="center", text_baseline="middle",
        text_font_size="11px", text_font_style="bold", text_color="ink",
    )  # fmt: skip
    tap = TapTool(renderers=[disc], callback=CustomJS(args={"source": told}, code=_OPEN))
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


def _norm(plan: CoursePlan, numbers: Numbers, steps: Any) -> figure:
    plot = look.picture("total norm", 250, steps, y_axis_type="log")
    plot.yaxis.axis_label = "total gradient norm"
    look.few_ticks(plot, 5)
    for lane, color in zip(plan.lanes, NORM_COLORS, strict=False):
        label = f"optimizer {lane.optimizer}" if plan.several else "total norm"
        line = curve(plot, source(numbers, f"norm-{lane.optimizer}"), color, label)
        plot.add_tools(look.hover(line, (label, "middle"), ("smallest", "low"), ("largest", "high")))
        if lane.capped:
            _cap(plot, numbers, lane, color if plan.several else look.ORANGE, several=plan.several)
    look.keep_axis(plot, plan.finite, log=True)
    _bad(plot, numbers, "bad", drawn=plan.bad)
    look.legend_above(plot)
    return plot


def _cap(plot: figure, numbers: Numbers, lane: LanePlan, color: str, *, several: bool) -> None:
    cap = source(numbers, f"cap-{lane.optimizer}")
    named = f"cap {lane.optimizer}" if several else "cap"
    plot.line("step", "middle", source=cap, line_color=color, line_dash=[5, 3], legend_label=named)


def _bad(plot: figure, numbers: Numbers, name: str, *, drawn: bool) -> None:
    """A hatched band over the steps without a finite number: they have no place on the axis."""
    named = {"legend_label": "non-finite"} if drawn else {}
    plot.vstrip(
        "left", "right", source=source(numbers, name), fill_color=look.NONFINITE, fill_alpha=0.1,
        line_color=look.NONFINITE, line_alpha=0.5, hatch_pattern="right_diagonal_line",
        hatch_color=look.NONFINITE, hatch_alpha=0.3, hatch_scale=8, level="underlay", **named,
    )  # fmt: skip


def _loss(plan: LossPlan, numbers: Numbers, steps: Any) -> figure:
    axis = {"y_range": DataRange1d(**numbers[LOSS_AXIS], name=LOSS_AXIS)} if plan.finite else {}
    plot = look.picture("loss", 190, steps, y_axis_type="log" if plan.log else "linear", **axis)
    plot.yaxis.axis_label = "loss"
    look.few_ticks(plot)
    line = curve(plot, source(numbers, "loss"), look.GREEN, "loss")
    plot.add_tools(look.hover(line, ("loss", "middle"), ("largest", "high")))
    look.keep_axis(plot, plan.finite, log=plan.log)
    _bad(plot, numbers, "bad-loss", drawn=plan.bad)
    look.legend_above(plot)
    return plot


def _rate(plan: CoursePlan, numbers: Numbers, steps: Any) -> figure:
    plot = look.picture("learning rate", 130, steps, y_range=DataRange1d(start=0.0))
    plot.yaxis.formatter = PrintfTickFormatter(format="%.3g")
    look.few_ticks(plot, 3)
    plot.yaxis.axis_label = "learning rate"
    for lane, color in zip(plan.lanes, NORM_COLORS, strict=False):
        label = f"optimizer {lane.optimizer}" if plan.several else "learning rate"
        rate = source(numbers, f"lr-{lane.optimizer}")
        line = plot.line("step", "middle", source=rate, line_color=color, line_width=1.6, legend_label=label)
        plot.scatter("step", "lone", source=rate, fill_color=color, line_color=None, size=5)
        if lane.lowered:
            used = source(numbers, f"used-lr-{lane.optimizer}")
            plot.line(
                "step", "low", source=used, line_color=look.RED, line_dash=[5, 3], legend_label="as lowered"
            )
        plot.add_tools(look.hover(line, (label, "middle")))
    look.legend_above(plot)
    return plot
