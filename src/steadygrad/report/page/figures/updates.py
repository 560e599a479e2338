"""How far each step moves the weights, relative to them.

Shape legend: M measured steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.models import BoxAnnotation, HoverTool
from bokeh.plotting import figure

from steadygrad.report.page.data.updates import USUAL, Updates
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.sketch import Numbers, Sketch, source


def updates_sketch(data: Updates) -> Sketch:
    """Prepare the picture of update ratios.

    Args:
        data: from `steadygrad.report.page.data.updates.updates`.

    Returns:
        Median, percentiles and the largest over all tensors; the source is named ``updates``.
    """
    numbers = {"updates": {"data": update_columns(data)}}
    return Sketch("updates", numbers, lambda steps: (_figure(numbers, steps),))


def _figure(numbers: Numbers, steps: Any) -> figure:
    plot = look.picture("update ratio", 210, steps, y_axis_type="log")
    plot.yaxis.axis_label, plot.xaxis.axis_label = "change / weight", "step"
    look.few_ticks(plot)
    ratios = source(numbers, "updates")
    plot.add_layout(BoxAnnotation(bottom=USUAL[0], top=USUAL[1], fill_color=look.GREEN, fill_alpha=0.08))
    plot.varea("step", "low", "high", source=ratios, fill_color=look.BLUE, fill_alpha=0.25,
               legend_label="10 to 90 % of the tensors")  # fmt: skip
    line = plot.line(
        "step", "middle", source=ratios, line_color=look.BLUE, line_width=1.6, legend_label="median"
    )
    plot.scatter("step", "middle", source=ratios, size=4, fill_color=look.BLUE, line_color=None)
    plot.line("step", "most", source=ratios, line_color=look.RED, line_dash=[4, 2], legend_label="largest")
    tips = [("step", "@step{%d}"), ("median", "@middle{%.2e}"), ("largest", "@most{%.2e}"), ("in", "@leader")]
    formats = dict.fromkeys(("@step", "@middle", "@most"), "printf")
    plot.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips, formatters=formats))
    look.legend_above(plot)
    return plot


def update_columns(data: Updates) -> dict[str, Any]:
    """What the source ``updates`` holds ``[M]``."""
    names = ("low", "middle", "high", "most")
    shares = {name: look.positive(getattr(data, name)) for name in names}
    return {"step": data.steps.astype(np.float64), "leader": list(data.leader), **shares}
