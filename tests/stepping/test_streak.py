from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.errors import NonfiniteStreak
from steadygrad.records import Reading
from steadygrad.stepping import SkipStreak
from steadygrad.stepping.streak import CALIBRATION_STEPS


def reading(step, kind):
    skipped = kind != "fine"
    total = float("nan") if skipped else 1.0
    return Reading(step, np.array([total]), total, skipped=skipped, overflow=kind == "overflow")


def stop_step(kinds, limit):
    streak = SkipStreak(limit)
    for step, kind in enumerate(kinds):
        if streak.observe(reading(step, kind)):
            return step
    return None


def slow_stop_step(kinds, limit):
    """For each step, look back over its run of skips and count those that aren't excused."""
    for step in range(len(kinds)):
        run = []
        for kind in reversed(kinds[: step + 1]):
            if kind == "fine":
                break
            run.insert(0, kind)
        overflows, counted = 0, 0
        for kind in run:
            overflows += kind == "overflow"
            counted += not (kind == "overflow" and overflows <= CALIBRATION_STEPS)
        # An excused overflow never stops a run: the next step that counts does.
        if run and limit is not None and counted >= limit and not excused(run):
            return step
    return None


def excused(run):
    return run[-1] == "overflow" and run.count("overflow") <= CALIBRATION_STEPS


@given(
    st.lists(st.sampled_from(["fine", "nan", "nan", "overflow", "overflow", "overflow"]), max_size=90),
    st.sampled_from([1, 2, 10, None]),
)
def test_it_stops_where_the_slow_count_does(kinds, limit):
    assert stop_step(kinds, limit) == slow_stop_step(kinds, limit)


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_true_faults_stop_at_the_limit(limit):
    assert stop_step(["fine", *["nan"] * 20], limit) == limit


def test_overflows_are_excused_while_a_scale_is_sought_but_not_for_ever():
    assert stop_step(["overflow"] * CALIBRATION_STEPS, 1) is None
    assert stop_step(["overflow"] * 100, 3) == CALIBRATION_STEPS + 2


@pytest.mark.parametrize(
    ("ruined", "said", "unsaid"),
    [
        (
            ["a.weight", "a.bias"],
            "but a.weight, a.bias hold a NaN or an Inf by now: something else",
            "finite number",
        ),
        (["a.weight"], "but a.weight holds a NaN", "finite number"),
        ([], "All of them were skipped, and every weight is still a finite number.", "something else"),
        (None, "All of them were skipped. ", "weight is"),
    ],
)
def test_the_error_says_of_the_weights_what_is_known(ruined, said, unsaid):
    streak = SkipStreak(1)
    last = reading(7, "nan")
    streak.observe(last)
    text = str(streak.error(last, "in head.weight", ruined))
    assert said in text
    assert unsaid not in text
    streak.went_back_to = 3
    assert "All of them" not in str(streak.error(last, "in head.weight", ruined))


def test_the_error_tells_where_it_began_and_what_to_do():
    streak = SkipStreak(2)
    streak.observe(reading(7, "nan"))
    last = reading(8, "nan")
    assert streak.observe(last)
    error = streak.error(last, "in head.weight")
    assert isinstance(error, NonfiniteStreak)
    for part in (
        "stopped at step 8",
        "2 optimizer steps",
        "the first at step 7",
        "in head.weight",
        "max_consecutive_skips=",
    ):
        assert part in str(error)
