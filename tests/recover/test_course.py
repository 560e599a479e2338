from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.recover.course import AFTERMATH, EPISODE, FIRST, STAYS, Course

COST = 40


def told(losses, course=None, cost=COST):
    """The steps at which something was said, with the first word."""
    course = course or Course()
    found = []
    for step, loss in enumerate(losses):
        course.add(loss)
        if trouble := course.trouble(cost):
            found.append((step, trouble.partition(":")[0]))
    return found


def noisy(level, count, spread=0.2, seed=0):
    draw = random.Random(seed)
    return [level * math.exp(spread * draw.gauss(0, 1)) for _ in range(count)]


def test_a_loss_that_learns_is_left_alone():
    assert not told([loss / (1 + step / 50) for step, loss in enumerate(noisy(2.0, 1000))])


@pytest.mark.parametrize("height", [3.0, 1e6, math.inf, math.nan])
def test_a_single_spike_is_no_reason(height):
    losses = noisy(1.0, 200)
    losses[100] = height
    assert not told(losses)


def test_a_catapult_shoots_up_and_comes_down_by_itself():
    usual = noisy(1.0, 100, 0.05)
    up = [2.0**k for k in range(1, 7)]
    down = [64.0 * 0.8**k for k in range(1, 20)]
    assert not told([*usual, *up, *down, *usual])


@pytest.mark.parametrize("height", [2.5, 1e6, math.nan])
def test_a_loss_that_stays_up_has_diverged(height):
    found = told([*noisy(1.0, 100, 0.05), *[height] * 20])
    assert found[0] == (100 + STAYS - 1, "divergence")


@pytest.mark.parametrize(
    ("height", "factor", "diverges"), [(1e9, 0.91, True), (10.0, 0.91, False), (3.0, 0.985, True)]
)
def test_one_that_falls_is_waited_for_as_long_as_going_back_would_cost(height, factor, diverges):
    found = told([*noisy(1.0, 100, 0.05), *[max(1.0, height * factor**k) for k in range(300)]])
    assert [kind for _, kind in found[:1]] == ["divergence"] * diverges
    assert not diverges or found[0][0] == 100 + STAYS - 1


def test_the_more_going_back_costs_the_longer_a_falling_loss_is_waited_for():
    losses = [*noisy(1.0, 100, 0.05), *[max(1.0, 100.0 * 0.94**k) for k in range(100)]]
    assert told(losses, cost=20)
    assert not told(losses, cost=300)


@pytest.mark.parametrize(("level", "harmed"), [(1.0, False), (1.1, False), (1.5, True)])
def test_some_steps_far_up_and_what_they_have_left_behind(level, harmed):
    found = told([*noisy(1.0, 100, 0.05), *[50.0] * 8, *noisy(level, 100, 0.05)])
    assert found[:1] == [(100 + 8 + AFTERMATH - 1, "lasting harm")] * harmed


def test_fewer_steps_far_up_are_no_episode():
    assert not told([*noisy(1.0, 100, 0.05), *[50.0] * (EPISODE - 1), *noisy(1.5, 100, 0.05)])


def test_spikes_that_come_again_and_again():
    losses = [1.0 if step < 200 or step % 2 else 50.0 for step in range(240)]
    found = told(losses)
    assert found
    assert found[0][1] == "repeated spikes"


@pytest.mark.parametrize("every", [4, 7, 50])
def test_outliers_that_belong_to_the_data_are_left_alone(every):
    assert not told([1.0 + 0.01 * (step % 5) if step % every else 50.0 for step in range(600)])


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_spikes_that_have_always_come_are_no_news(share):
    for seed in range(5):
        draw = random.Random(seed)
        assert not told([50.0 if draw.random() < share else 1.0 + 0.1 * draw.random() for _ in range(2000)])


def test_before_there_is_a_course_only_far_above_the_beginning_counts():
    beginning = [2.3, 2.2, 2.1, 1.9, 1.8]
    assert not told([*beginning, *[4.0] * 100])
    assert told([*beginning, *[40.0] * 30])[0] == (len(beginning) + STAYS - 1, "divergence")


def test_nothing_is_judged_before_there_is_a_beginning():
    assert not told([1.0] * (FIRST - 1) + [1e6] * 50)


def test_negative_losses_have_a_course_too():
    assert not told([-5.0 + loss for loss in noisy(1.0, 300)])
    assert told([*(-5.0 + loss for loss in noisy(1.0, 300)), *[20.0] * 20])


def test_a_new_level_is_learnt_once_it_is_accepted():
    course = Course()
    assert told([1.0] * 100 + [10.0] * 20, course)
    course.accept()
    assert not told([10.0] * 200, course)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=200))
def test_whatever_comes_it_never_fails(losses):
    told(losses)


@given(st.floats(1e-6, 1e6), st.integers(0, 50))
def test_only_ratios_count(scale, seed):
    losses = [*noisy(1.0, 100, seed=seed), *noisy(30.0, 20, seed=seed)]
    assert told(losses) == told([scale * loss for loss in losses])
