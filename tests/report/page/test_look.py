from __future__ import annotations

import numpy as np
import pytest
from bokeh.models import ColorBar

from steadygrad.records import SEVERITIES, Finding
from steadygrad.report.page.data.buckets import Buckets
from steadygrad.report.page.data.raster import raster
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.course_plan import SEVERITY_COLORS, SEVERITY_INKS
from steadygrad.report.page.figures.heat import heat_sketch
from steadygrad.report.page.render import page
from steadygrad.runfile import open_run

RADIUS = 9.5
"""Pixels from the middle of a finding's mark to its edge."""
NARROWEST = 230
"""Pixels of a frame on a telephone."""


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 2), (0, 60), (1000, 1300), (-7, 2), (0, 10**9)])
def test_the_mark_of_a_finding_at_either_end_is_whole(start, stop):
    steps = look.step_range(Buckets.over(start, stop, 900))
    for step in (start, stop - 1):
        share = (step - steps.start) / (steps.end - steps.start)
        assert RADIUS / NARROWEST < share < 1 - RADIUS / NARROWEST
    assert steps.tags == [{"steps": [start, stop - 1]}]
    assert steps.bounds == (steps.start, steps.end)


def test_nothing_is_written_between_two_steps(record):
    with open_run(record(np.ones((1, 4)), {0: {"loss": 1.0}})) as run:
        pictures = [plot for part in page(run)[1] for model in part.models for plot in _plots(model)]
    on_steps = [plot for plot in pictures if plot.x_range.name == "steps"]
    assert len(on_steps) >= 4
    assert all(plot.xaxis[0].ticker.min_interval == 1 for plot in on_steps)


def test_marks_are_spoken_of_where_there_are_some(record):
    found = [Finding("dead_units", "warning", 3, ("layers.0",), "Units are dead.")]
    with (
        open_run(record(np.ones((9, 4)))) as calm,
        open_run(record(np.ones((9, 4)), {}, found, name="b")) as ill,
    ):
        hints = [page(run)[1][0].hint for run in (calm, ill)]
    assert ["mark" in hint for hint in hints] == [False, True]


def _plots(model):
    return (
        [model]
        if hasattr(model, "xaxis")
        else [p for child in getattr(model, "children", ()) for p in _plots(child)]
    )


@pytest.mark.parametrize("value", [4_339_009.0, 0.0, -3e-9, 1.7e308])
def test_numbers_that_are_all_alike_have_an_axis_that_can_be_read(record, value):
    with open_run(record(np.ones((9, 4)), {step: {"loss": value} for step in range(9)})) as run:
        (loss,) = [plot for plot in page(run)[1][0].models if plot.name == "loss"]
    assert loss.y_range.default_span == (min(abs(value), 1e300) or 1.0)


@pytest.mark.parametrize(
    ("norms", "texts"),
    [
        ([9e-4, 1.0, 2e3], {"1e-3", "1", "1e3"}),
        ([0.13, 0.9], {"0.2", "0.5"}),
        ([0.31, 0.32], {"0.31", "0.32"}),
        ([1.0, 1.0], {"1"}),
        ([1e-30, 1e30], {"1"}),
        ([np.nan, np.nan], set()),
    ],
)
def test_the_colours_of_the_heat_map_have_numbers(record, norms, texts):
    with open_run(record(np.tile(norms, (20, 2)))) as run:
        (drawn,) = heat_sketch(picture := raster(run)).draw(look.step_range(picture.buckets))
    (bar,) = drawn.select({"type": ColorBar})
    told = bar.major_label_overrides
    assert texts <= set(told.values())
    assert len(told) <= 12
    mapper = bar.color_mapper
    assert all(mapper.low <= code <= mapper.high for code in told)
    assert list(told) == bar.ticker.ticks


def _luminance(color):
    parts = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_number_on_a_mark_can_be_read(severity):
    """WCAG 2.1, 1.4.11: at least 3 to 1 for what is bold and large or part of a picture."""
    light, dark = sorted((_luminance(c[severity]) for c in (SEVERITY_COLORS, SEVERITY_INKS)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 4
