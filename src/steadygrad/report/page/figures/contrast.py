"""The heat map of a comparison: how many times larger each norm is in the second run.

Shape legend: P tensors, C columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Range1d,
)
from bokeh.palettes import PuOr, interp_palette
from bokeh.plotting import figure

from steadygrad.report.page.data.contrast import ONE_NONFINITE, UNKNOWN, Contrast
from steadygrad.report.page.data.modules import groups
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.script import script
from steadygrad.report.wording import layer
from steadygrad.runfile.codec import STEPS_PER_NAT

MOST_LABELS = 24
_PALETTE = interp_palette(PuOr[11], 128)


def contrast_map(data: Contrast, steps: Any) -> figure:
    """Draw the comparison.

    Args:
        data: from `steadygrad.report.page.data.contrast.contrast`.
        steps: the range of steps that other pictures share.

    Returns:
        The picture: orange where the first run's norms are larger, purple where the second's are.
    """
    size = len(data.cells)
    plot = look.picture("contrast", int(np.clip(14 * size + 90, 190, 480)), steps)
    plot.y_range = Range1d(size, 0, bounds=(0, size))
    plot.xaxis.axis_label = "step"
    _label(plot, data)
    edge = _edge(data)
    mapper = LinearColorMapper(_PALETTE, low=-edge, high=edge, low_color=_PALETTE[0], high_color=_PALETTE[-1])
    image, bad = _images(data)
    edges = data.buckets.edges - 0.5
    where = {"x": [edges[0]], "y": [0], "dw": [edges[-1] - edges[0]], "dh": [size]}
    shown = ColumnDataSource({"image": [image], "bad": [bad], **where}, name="contrast")
    plot.image("image", "x", "y", "dw", "dh", source=shown, color_mapper=mapper)
    alone = LinearColorMapper(["#00000000"], low=0, high=1, high_color=look.NONFINITE, low_color=look.GREY)
    plot.image("bad", "x", "y", "dw", "dh", source=shown, color_mapper=alone)
    plot.add_layout(_bar(mapper, edge), "above")
    _hover(plot, data, shown)
    return plot


def _edge(data: Contrast) -> int:
    """Where the palette ends: at the largest difference but those of a hundredth of the cells, at least twofold."""
    known = np.abs(data.cells[(data.cells > UNKNOWN) & (data.cells < ONE_NONFINITE)].astype(np.int32))
    most = int(np.percentile(known, 99)) if known.size else 0
    return max(most, round(STEPS_PER_NAT * math.log(2.0)))


def _images(data: Contrast) -> tuple[Any, Any]:
    bad = np.where(data.cells == ONE_NONFINITE, 2, np.where(data.cells == UNKNOWN, -1, 0)).astype(np.int8)
    return np.where(bad == 0, data.cells, 0).astype(np.int16), bad


def _label(plot: figure, data: Contrast) -> None:
    found = groups(data.tensors)
    every = max(1, -(-len(found) // MOST_LABELS))
    places = {group.first + group.count / 2: layer(group.name) for group in found[::every]}
    plot.yaxis.ticker = FixedTicker(ticks=list(places))
    plot.yaxis.major_label_overrides = {
        place: name if len(name) <= 16 else "…" + name[-15:] for place, name in places.items()
    }
    plot.grid.grid_line_color = None


def _bar(mapper: LinearColorMapper, edge: int) -> ColorBar:
    wish = (1e-6, 1e-4, 1e-2, 0.1, 0.5, 1.0, 2.0, 10.0, 1e2, 1e4, 1e6)
    places = {round(STEPS_PER_NAT * np.log(ratio)): f"x{ratio:g}" for ratio in wish}
    places = {place: text for place, text in places.items() if abs(place) <= edge}
    return ColorBar(
        color_mapper=mapper, ticker=FixedTicker(ticks=list(places)), major_label_overrides=dict(places),
        major_tick_line_color=None, major_label_text_font_size="12px", height=9, width="auto", padding=4,
        background_fill_color=None,
    )  # fmt: skip


def _hover(plot: figure, data: Contrast, shown: ColumnDataSource) -> None:
    rows = ColumnDataSource({"name": [tensor.name for tensor in data.tensors]})
    known = {
        "shown": shown,
        "rows": rows,
        "about": {"start": data.buckets.start, "width": data.buckets.width},
    }
    parts = {"$name": "name", "$x": "steps", "@image": "value"}
    names = {"name": "tensor", "steps": "step", "value": "B relative to A"}
    formats = {
        field: CustomJSHover(args={**known, "part": part}, code=script("contrast_hover.js"))
        for field, part in parts.items()
    }
    tips = [(names[part], f"{field}{{custom}}") for field, part in parts.items()]
    plot.add_tools(HoverTool(renderers=plot.renderers[:1], tooltips=tips, formatters=formats))
