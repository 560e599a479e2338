"""Streams of looks at what a model answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadygrad.detect.answers import AnswerDetector, Answers
from steadygrad.detect.sameness import LEAST_TARGETS

STUCK = Answers(512.0, 1.0, 1.38, 1e-9, 0.0, 3.0, 1.38, 0.5, 0.01, 0.0, 0.0)
SQUARED = Answers(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.1, 1e-9)
STEPS = (1, 3, 5, 9, 17, 33, 65, 129, 300, 500, 800, 1200, 2000)


def run(looks, losses=None):
    detector, found = AnswerDetector(), []
    state = detector.start()
    for step, look in looks:
        state, news = detector.observe(state, step, look, None if losses is None else losses[step])
        found += news
    return [(one.kind, one.severity) for one in found], found


def test_answers_that_are_equal_to_rounding_are_told_after_256_steps():
    kinds, found = run([(step, STUCK) for step in STEPS])
    assert kinds == [("constant_prediction", "warning")]
    assert found[0].step == 1
    assert found[0].evidence["steps"] == 299
    assert found[0].evidence["loss of a constant"] == 1.38


def test_a_plateau_is_a_note_and_after_1024_steps_a_warning():
    kinds, _ = run([(step, replace(STUCK, apart=1e-3)) for step in STEPS])
    assert kinds == [("constant_prediction", "info"), ("constant_prediction", "warning")]


@pytest.mark.parametrize(
    "change",
    [
        lambda step: {"apart": 1e-6 * math.exp(step / 100)},  # answers grow apart: it is being left
        lambda step: {"apart": 1e-4, "loss": 3.0 * math.exp(-step / 500)},  # the loss falls
        lambda _: {"apart": 0.02},
        lambda _: {"fits": 0.0},
        lambda step: {"apart": 1e-9 if step % 2 else float("nan")},
    ],
)
def test_what_moves_is_not_stuck(change):
    steps = [step + place % 2 for place, step in enumerate(STEPS[:10])]
    kinds, _ = run([(step, replace(STUCK, **change(step))) for step in steps])
    assert kinds == []


def test_labels_of_one_class_are_counted_over_the_looks():
    one = replace(STUCK, apart=0.1, rows=32.0, first=2.0, last=2.0)
    needed = -(-LEAST_TARGETS // 32)
    assert run([(step, one) for step in STEPS[: needed - 1]])[0] == []
    kinds, found = run([(step, one) for step in STEPS[:needed]])
    assert kinds == [("constant_targets", "warning")]
    assert "class 2" in found[0].summary
    other = replace(one, first=1.0, last=1.0)
    assert run([(1, other), *((step, one) for step in STEPS[1:])])[0] == []


@pytest.mark.parametrize("course", [[4e8] * 4, [4e8, 4e12, 4e16, 4e20]])
def test_a_regression_that_begins_far_away_and_stays_there(course):
    looks = [
        (step, replace(SQUARED, squares=loss, spread=0.05))
        for step, loss in zip((1, 3, 9, 17), course, strict=True)
    ]
    kinds, _ = run(looks, {step: look.squares for step, look in looks})
    assert kinds == [("unscaled_targets", "warning")]


@pytest.mark.parametrize(("first", "late", "size"), [(4e8, 1e7, 1.0), (1e4, 1e4, 1.0), (4e8, 4e8, 1e7)])
def test_a_regression_that_arrives_or_is_near_or_large_itself(first, late, size):
    looks = [
        (step, replace(SQUARED, squares=loss, size=size, spread=0.5))
        for step, loss in ((1, first), (17, late), (33, late))
    ]
    assert run(looks, {step: look.squares for step, look in looks})[0] == []


def test_a_loss_that_is_no_mean_of_squares_says_nothing():
    looks = [(step, replace(SQUARED, squares=4e8)) for step in STEPS]
    assert run(looks, dict.fromkeys(STEPS, 1e3))[0] == []
    assert run(looks)[0] == []


def test_a_stuck_regression():
    looks = [(step, replace(SQUARED, squares=2.0, variance=2.0, spread=1e-8)) for step in STEPS]
    assert run(looks, dict.fromkeys(STEPS, 2.0))[0] == [("constant_prediction", "warning")]


@given(st.lists(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 12), max_size=30))
@example([(math.inf, *[1.0] * 11)])
@example([(math.nan, *[1.0] * 11)])
def test_whatever_comes_nothing_breaks(rows):
    detector = AnswerDetector()
    state = detector.start()
    for step, row in enumerate(rows):
        state, _ = detector.observe(state, 100 * step, Answers(*row[:11]), row[11])
