"""The heat map: every tensor, every step.

Shape legend: P tensors, C columns.
"""

from __future__ import annotations

from math import log10
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import (
    ColorBar,
    Column,
    ColumnDataSource,
    CustomJS,
    CustomJSHover,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Range1d,
    Select,
    TapTool,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from steadygrad.records import TensorInfo
from steadygrad.report.page.data.modules import Group, groups, ranking
from steadygrad.report.page.data.raster import LEAST, Raster, cell_value
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.script import script
from steadygrad.report.page.figures.sketch import Numbers, Sketch, source
from steadygrad.report.wording import number
from steadygrad.runfile.codec import CODE_OF_ONE, STEPS_PER_NAT

NO_GRADIENT_COLOR = "#a6adb866"
ORDERS = [
    ("forward", "forward order"),
    ("worst", "largest norm first"),
    ("growth", "most growth first"),
]
FOLD_ABOVE = 400
"""Tensors above which modules are folded at first: a row of less than a pixel can't be seen."""
LEAST_FOLDED = 4
ABOVE, BELOW = 38, 52
"""Pixels above and below the frame, alike in the picture and in the names beside it."""
_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "max_width": 230, "min_width": 90}
"""Controls that stand beside each other on a narrow screen too."""
_PER_DECADE = STEPS_PER_NAT * np.log(10.0)
_OUTLIERS = 0.1
"""Percent of the smallest norms that share the lowest colour: one denormal must not use up the palette."""


def heat_sketch(picture: Raster) -> Sketch:
    """Prepare the norms of all tensors.

    Args:
        picture: from `steadygrad.report.page.data.raster.raster`.

    Returns:
        Two selects (order of rows; modules to fold) above the picture. A click on a module beside it folds it too.
        The source ``cells`` holds all tensors in forward order; what is shown, in the source ``heat``, the browser
        makes of it: when the page opens, and whenever ``cells`` changes.
    """
    numbers, tensors = _numbers(picture), picture.tensors
    return Sketch(tensors, numbers, lambda steps: (_layout(tensors, numbers, steps),))


def _numbers(picture: Raster) -> dict[str, dict[str, Any]]:
    """Cells last: they are what the browser paints again."""
    low, high = _limits(picture)
    cells = picture.cells if picture.cells.size else np.zeros((1, 1), np.uint16)
    cells = np.where((cells >= LEAST) & (cells < low), np.uint16(low), cells)
    columns, edges = picture.buckets, picture.buckets.edges - 0.5
    grid = {
        "x": [edges[0]], "dw": [edges[-1] - edges[0]], "start": [columns.start], "width": [columns.width],
        "floor": [low],
    }  # fmt: skip
    ticks = _ticks(low, high)
    return {
        "tensors": {"data": _about(picture)},
        "colors": {"low": low, "high": high},
        "decades": {"ticks": list(ticks)},
        "color bar": {"major_label_overrides": ticks},
        "cells": {"data": {"cells": [cells], **grid}},
    }


def _layout(tensors: tuple[TensorInfo, ...], numbers: Numbers, steps: Any) -> Column:
    cells, about, found = source(numbers, "cells"), source(numbers, "tensors"), groups(tensors)
    about.tags = [{"groups": [{"name": one.name, "first": one.first, "count": one.count} for one in found]}]
    plot, shown = _picture(cells, numbers, steps)
    fold = len(tensors) > FOLD_ABOVE and len(found) >= LEAST_FOLDED
    plot.tags = [{"folded": [i for i, group in enumerate(found) if group.count > 1] if fold else []}]
    return _with_rows(found, cells, about, plot, shown)


def _limits(picture: Raster) -> tuple[int, int]:
    known = picture.cells[picture.finite]
    if not known.size:
        return LEAST, LEAST + 1
    low = int(np.percentile(known, _OUTLIERS, method="lower"))
    return low, max(int(known.max()), low + 1)


def _picture(cells: ColumnDataSource, numbers: Numbers, steps: Any) -> tuple[figure, ColumnDataSource]:
    size = len(cells.data["cells"][0])
    plot = look.picture("heat map", int(np.clip(14 * size + 90, 190, 520)), steps)
    plot.min_border_left = 0
    plot.min_border_top, plot.min_border_bottom = ABOVE, BELOW
    plot.y_range = Range1d(size, 0, bounds=(0, size), name="rows")
    plot.yaxis.visible = False
    plot.grid.grid_line_color = None
    plot.xaxis.axis_label = "step"
    mapper = LinearColorMapper(
        Viridis256, **numbers["colors"], low_color=NO_GRADIENT_COLOR, high_color=look.NONFINITE, name="colors"
    )
    blank = [np.zeros((1, 1), np.uint16)]
    place = {"x": cells.data["x"], "y": [0], "dw": cells.data["dw"], "dh": [size]}
    shown = ColumnDataSource({"image": blank, **place}, name="heat")
    plot.image("image", "x", "y", "dw", "dh", source=shown, color_mapper=mapper)
    plot.add_layout(_color_bar(mapper, numbers), "above")
    return plot, shown


def _ticks(low: int, high: int) -> dict[int, str]:
    """Codes that are labelled: powers of ten, with 2 and 5 where there are few of them, the ends where there is none."""
    first, last = (int((code - CODE_OF_ONE) // _PER_DECADE) for code in (low, high))
    every = max(1, -(-(last - first) // 10))
    plain = {_code(d): f"1e{d}" if d else "1" for d in range(first, last + 1) if d % every == 0}
    fine = {_code(d, m): number(m * 10.0**d) for d in range(first, last + 1) for m in (1, 2, 5)}
    ends = {code: number(cell_value(code)) for code in (low, high) if code > LEAST}
    inside = [{at: text for at, text in some.items() if low <= at <= high} for some in (plain, fine, ends)]
    return next((places for places in inside if len(places) > 2), max(inside, key=len))


def _code(decade: int, times: int = 1) -> int:
    return round(float(CODE_OF_ONE + (decade + log10(times)) * _PER_DECADE))


def _color_bar(mapper: LinearColorMapper, numbers: Numbers) -> ColorBar:
    return ColorBar(
        color_mapper=mapper,
        ticker=FixedTicker(**numbers["decades"], name="decades"),
        **numbers["color bar"],
        name="color bar",
        major_tick_line_color=None,
        major_label_text_font_size="12px",
        height=9,
        width="auto",
        padding=4,
        background_fill_color=None,
    )


def _with_rows(
    found: list[Group],
    cells: ColumnDataSource,
    about: ColumnDataSource,
    plot: figure,
    shown: ColumnDataSource,
) -> Column:
    rows = ColumnDataSource({"name": [], "detail": []}, name="rows")
    side, strip, labels = _side(plot)
    order = Select(
        title="Order of the rows", value="forward", options=ORDERS, **_WIDE, stylesheets=[look.CONTROL],
        name="order",
    )  # fmt: skip
    choices = [("", "choose …"), ("all", "fold all"), ("none", "unfold all")]
    choices += [(str(i), group.name) for i, group in enumerate(found) if group.count > 1]
    chooser = Select(
        title="Fold or unfold modules", value="", options=choices, **_WIDE, stylesheets=[look.CONTROL],
        name="chooser",
    )  # fmt: skip
    known = {
        "cells": cells, "shown": shown, "rows": rows, "strip": strip, "labels": labels, "plot": plot,
        "about": about, "order": order, "chooser": chooser,
    }  # fmt: skip

    def then(what: str) -> CustomJS:
        return CustomJS(args={**known, "what": what}, code=script("heat_rows.js"))

    cells.js_on_change("data", then("data"))
    order.js_on_change("value", then("sort"))
    chooser.js_on_change("value", then("choose"))
    strip.selected.js_on_change("indices", then("fold"))
    plot.y_range.js_on_change("start", then("zoom"))
    plot.js_on_change("inner_height", then("begin"))
    _hover(plot, {"rows": rows, "shown": shown, "cells": cells})
    controls = row(order, chooser, css_classes=["controls"], sizing_mode="stretch_width")
    return column(controls, row(side, plot, sizing_mode="stretch_width"), sizing_mode="stretch_width")


def _about(picture: Raster) -> dict[str, Any]:
    """What the script has to know of each tensor."""
    rank = ranking(picture)
    return {
        "name": [tensor.name for tensor in picture.tensors],
        "shape": [" x ".join(map(str, tensor.shape)) or "scalar" for tensor in picture.tensors],
        "worst": rank.worst.astype(np.float32),
        "growth": rank.growth.astype(np.float32),
    }


def _side(plot: figure) -> tuple[figure, ColumnDataSource, ColumnDataSource]:
    """The names beside the picture, as wide as what lies left of the other pictures' frames."""
    side = figure(
        name="modules", width=look.LEFT, height=plot.height, x_range=(0, 1), y_range=plot.y_range,
        tools=[], toolbar_location=None, outline_line_color=None, min_border_left=0, min_border_right=0,
        min_border_top=ABOVE, min_border_bottom=BELOW,
        background_fill_color=None, border_fill_color=None,
    )  # fmt: skip
    side.axis.visible = False
    side.grid.grid_line_color = None
    strip = ColumnDataSource({"y": [], "height": [], "group": [], "shade": []}, name="strip")
    labels = ColumnDataSource({"y": [], "text": []}, name="labels")
    box = side.rect(
        0.5, "y", 1, "height", source=strip, fill_color=look.GREY, fill_alpha="shade", line_color=None
    )
    box.nonselection_glyph = box.selection_glyph = box.glyph
    names = side.text(
        0.96, "y", "text", source=labels, text_align="right", text_baseline="middle", text_font_size="11px",
        text_color=look.GREY,
    )  # fmt: skip
    names.glyph.tags = [look.INK]
    side.add_tools(TapTool(renderers=[box]))
    return side, strip, labels


def _hover(plot: figure, known: dict[str, Any]) -> None:
    parts = {"$name": "name", "$index": "detail", "$x": "steps", "@image": "value"}
    names = {"name": "tensor", "detail": "shape", "steps": "step", "value": "gradient norm"}
    formats = {
        field: CustomJSHover(args={**known, "part": part}, code=script("heat_hover.js"))
        for field, part in parts.items()
    }
    tips = [(names[part], f"{field}{{custom}}") for field, part in parts.items()]
    plot.add_tools(HoverTool(tooltips=tips, formatters=formats, attachment="vertical"))
