from __future__ import annotations

import numpy as np
import pytest
from bokeh.models import Range1d, Select

from steadygrad.report.live.drawing import draw
from steadygrad.report.live.graft import build_of, graft, move_steps, replace_children
from steadygrad.report.page.sections import sections
from steadygrad.runfile import open_run


def drawn(record, rows, changes=None, name="first", **info):
    return draw(open_run(record(np.ones((rows, 2)), changes, name=name, **info)), 1)


def sources(figures):
    return {(plot.name, r.data_source.name): r.data_source.data for plot in figures for r in plot.renderers}


def test_numbers_move_into_pictures_of_the_same_build(record):
    early = drawn(record, 5, {step: {"loss": 2.0 - step / 100} for step in range(5)}, "early")
    late = drawn(record, 50, {step: {"loss": 2.0 - step / 100} for step in range(50)}, "late")
    assert early.build == late.build
    graft(early.figures, late.figures)
    mine, theirs = sources(early.figures), sources(late.figures)
    assert mine.keys() == theirs.keys()
    for key, data in mine.items():
        for column, values in data.items():
            np.testing.assert_array_equal(values, theirs[key][column])


@pytest.mark.parametrize(
    "changes",
    [
        {3: {"loss": 1.0}},
        {3: {"skipped": True}},
        {3: {"cap": 2.0}},
        {3: {"optimizer": 1}},
        {1: {"loss": 1.0}, 2: {"loss": 1e6}},
    ],
)
def test_another_build_is_told(record, changes):
    plain = drawn(record, 5, {1: {"loss": 1.0}} if len(changes) > 1 else None, "plain")
    assert plain.build != drawn(record, 5, changes, "other").build


def test_what_is_unchanged_is_not_sent(record):
    one, same = (drawn(record, 5, None, name) for name in ("one", "same"))
    before = {key: id(data) for key, data in sources(one.figures).items()}
    graft(one.figures, same.figures)
    assert {key: id(data) for key, data in sources(one.figures).items()} == before


def test_no_picture_is_a_build_too(record):
    assert build_of(()) == drawn(record, 0).build == ()


def test_a_picture_with_controls_is_replaced_as_the_reader_left_it(record):
    def heat(rows, name):
        run = open_run(record(np.ones((rows, 6)), name=name))
        return next(part.models[0] for part in sections(run, (), ()) if part.key == "heat")

    shown, drawn = heat(5, "early"), heat(50, "late")
    steps = Range1d(0, 49, name="steps")
    order = next(one for one in shown.select({"type": Select}) if "rder" in one.title)
    order.value = order.options[1][0]
    next(iter(shown.select({"name": "heat map"}))).tags = [{"folded": [0], "ready": True}]
    replace_children(shown, drawn, steps)
    now = next(one for one in shown.select({"type": Select}) if "rder" in one.title)
    assert now is not order
    assert now.value == order.value
    picture = next(iter(shown.select({"name": "heat map"})))
    assert picture.x_range is steps
    assert picture.tags[0]["folded"] == [0]
    assert "ready" not in picture.tags[0]  # so that the browser paints it again


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 99, (0, 199)), (60, 99, (160, 199)), (20, 40, (20, 40))],
    ids=["all steps", "the newest", "older ones"],
)
def test_the_reader_keeps_what_he_looks_at(start, end, expected):
    shown = Range1d(start, end, bounds=(0, 99))
    move_steps(shown, Range1d(0, 199, bounds=(0, 199)))
    assert (shown.start, shown.end) == expected
    assert shown.bounds == (0, 199)
