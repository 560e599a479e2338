"""Did a rollback for the loss's sake help? And what is done where it didn't."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.recover.course import Question
from steadygrad.recover.trial import IN_VAIN, PAUSE, RARE, Trial


def verdicts(trial, losses):
    found = []
    for loss in losses:
        if loss is not None:
            trial.add(loss)
        if verdict := trial.step():
            found.append(verdict)
    return found


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([1.0] * 4, "helped"),
        ([9.0] * 4, "in vain"),
        ([1.0, 1.0, 1.0, math.nan], "helped"),
        ([math.nan] * 4, "in vain"),
    ],
)
def test_the_losses_after_it_say(losses, verdict):
    trial = Trial()
    trial.begin(Question(2.0), last=False)
    assert trial.running
    assert verdicts(trial, losses) == [verdict]
    assert not trial.running


def test_it_is_given_up_after_some_in_vain_and_at_once_where_that_is_asked():
    trial = Trial()
    for attempt in range(IN_VAIN):
        trial.begin(Question(2.0), last=False)
        assert verdicts(trial, [9.0] * 4) == ["give up" if attempt == IN_VAIN - 1 else "in vain"]
    trial.begin(Question(2.0), last=True)
    assert verdicts(trial, [9.0] * 4) == ["give up"]


def test_after_one_in_vain_the_loss_is_left_alone_for_a_while():
    trial = Trial()
    trial.begin(Question(2.0), last=False)
    verdicts(trial, [9.0] * 4)
    assert sum(trial.pauses() for _ in range(100)) == PAUSE - 1


def test_a_loss_that_is_hardly_ever_logged_keeps_nobody_waiting():
    trial = Trial()
    trial.begin(Question(2.0, 16), last=False)
    assert verdicts(trial, [1.0, *[None] * (RARE - 1)]) == ["helped"]


@given(st.lists(st.floats(), min_size=1, max_size=20), st.floats(0.1, 1.0))
def test_a_question_is_answered_by_counting(losses, share):
    below = sum(math.isfinite(loss) and loss <= 1.0 for loss in losses)
    needed = min(len(losses) - 1, int(len(losses) * share)) + 1
    assert Question(1.0, len(losses), share).answered(losses) == (below >= needed)
