from __future__ import annotations

import numpy as np
import pytest
from bokeh.models import Range1d
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.report.live.drawing import draw
from steadygrad.report.live.shown import Shown, move_steps, same
from steadygrad.report.page.sections import tensor_drafts
from steadygrad.runfile import open_run


def drafts(path):
    """All sections of a run, by key."""
    with open_run(path) as run:
        return {one.key: one for one in (draw(run, 1).course, *tensor_drafts(run, run.findings))}


def course(record, rows, changes=None, name="first", **info):
    return drafts(record(np.ones((rows, 2)), changes, name=name, **info))["course"]


def values_of(shown, name, key):
    found = {model for root in shown.section.models for model in root.references()}
    (model,) = [one for one in found if one.name == name and key in one.properties()]
    return getattr(model, key)


def test_renewed_pictures_hold_the_numbers_of_the_newest_run(full_run):
    early, late = drafts(full_run(90, "early")), drafts(full_run(700, "late"))
    assert {*early} == {"course", "heat", "snowball", "through-time", "updates", "health", "overhead"}
    steps = Range1d(0, 89, name="steps")
    for key, draft in early.items():
        shown = Shown(draft, steps)
        assert shown.fits(late[key]), key
        shown.renew(late[key])
        for name, wanted in late[key].sketch.numbers.items():
            for attribute, value in wanted.items():
                found = values_of(shown, name, attribute)
                assert same(dict(found) if attribute == "data" else found, value), (key, name, attribute)


def test_every_number_belongs_to_one_model(full_run):
    for key, draft in drafts(full_run(90, "any")).items():
        roots = Shown(draft, Range1d(0, 89)).section.models
        models = {model for root in roots for model in root.references()}
        for name, values in draft.sketch.numbers.items():
            holders = [one for one in models if one.name == name and one.properties() >= values.keys()]
            assert len(holders) == 1, (key, name)


@pytest.mark.parametrize(
    "changes",
    [
        {3: {"loss": 1.0}},
        {3: {"loss": np.nan}},
        {3: {"skipped": True}},
        {3: {"cap": 2.0}},
        {3: {"optimizer": 1}},
        {3: {"lr_factor": 0.5}},
        {1: {"loss": 1.0}, 2: {"loss": 1e6}},
    ],
)
def test_another_build_is_told(record, changes):
    plain = course(record, 5, {1: {"loss": 1.0}} if len(changes) > 1 else None, "plain")
    assert not Shown(plain, Range1d(0, 4)).fits(course(record, 5, changes, "other"))


def test_a_first_finite_norm_is_another_build(record):
    lost = drafts(record(np.full((5, 2), np.nan), name="lost"))["course"]
    found = drafts(record([[np.nan, 1.0]] * 4 + [[1.0, 1.0]], name="found"))["course"]
    assert not Shown(lost, Range1d(0, 4)).fits(found)


def test_what_is_unchanged_is_not_sent(record):
    shown = Shown(course(record, 5, None, "one"), Range1d(0, 4))
    told = []
    for root in shown.section.models:
        for model in root.references():
            if "data" in model.properties():
                model.on_change("data", lambda attr, old, new: told.append(attr))
    shown.renew(course(record, 5, None, "same"))
    assert told == []
    shown.renew(course(record, 6, None, "more"))
    assert told


_LEAVES = st.one_of(st.floats(), st.integers(), st.text(), st.booleans(), st.none())


@given(st.recursive(_LEAVES, lambda deeper: st.lists(deeper) | st.dictionaries(st.text(), deeper)))
def test_what_is_built_alike_is_the_same(value):
    assert same([value], [value])
    assert not same([value], [value, value])
    assert not same({"a": value}, {"b": value})


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), True),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0]), False),
        (np.array([np.inf]), np.array([-np.inf]), False),
        (np.array([1.0]), np.array([1.0, 1.0]), False),
        ([[1], [1, 2]], [[1], [1, 3]], False),
        ([np.array([1, 2])], [np.array([1, 2])], True),
        ("ab", "ba", False),
        (1, True, False),
    ],
)
def test_same(one, other, expected):
    assert same(one, other) is expected


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
