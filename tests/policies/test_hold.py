from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.streams import patient

from steadygrad.policies.hold import HOLD, MAX_PATIENCE, PATIENCE, Hold

STEPS = st.lists(st.sampled_from([(False, False), (False, True), (True, True)]), max_size=300)


def take(hold, count, *, sign=False, unrest=False, lowered=False):
    """Changes by step, counted from 1."""
    changes = [hold.add(sign=sign, unrest=unrest, lowered=lowered) for _ in range(count)]
    return {i: change for i, change in enumerate(changes, 1) if change}


def test_a_calm_run_is_let_go_after_the_hold():
    hold = Hold()
    assert take(hold, 1, sign=True) == {1: "engage"}
    assert hold.engaged
    assert take(hold, 200) == {HOLD: "calm"}
    assert not hold.engaged


def test_unrest_keeps_the_caps_until_patience_ends():
    hold = Hold()
    take(hold, 1, sign=True)
    assert take(hold, 3 * PATIENCE, unrest=True) == {PATIENCE: "patience"}


def test_each_new_sign_starts_the_patience_anew():
    hold = Hold()
    take(hold, 50, sign=True)
    assert take(hold, 3 * PATIENCE, unrest=True) == {PATIENCE: "patience"}


def test_a_run_that_needs_the_caps_again_at_once_gets_twice_the_patience_up_to_a_limit():
    hold, waits = Hold(), []
    for _ in range(8):
        take(hold, 1, sign=True)
        waits += take(hold, 2 * MAX_PATIENCE, unrest=True) and [hold._patience]
        hold._let_go_at = hold._steps
    assert waits == [1000, 2000, 4000, 8000, 16000, 16000, 16000, 16000]


def test_patience_is_short_again_after_a_good_while():
    hold = Hold()
    for wait in (PATIENCE, 2 * PATIENCE):
        take(hold, 1, sign=True)
        assert take(hold, wait, unrest=True) == {wait: "patience"}
    take(hold, PATIENCE + 1)
    take(hold, 1, sign=True)
    assert take(hold, PATIENCE, unrest=True) == {PATIENCE: "patience"}


@pytest.mark.parametrize("pause", [1, HOLD])
def test_a_lowered_rate_is_told_once_in_a_while(pause):
    hold = Hold()
    assert take(hold, 100, lowered=True) == {1: "lower"}
    take(hold, pause)
    assert take(hold, 1, lowered=True) == ({} if pause < HOLD else {1: "lower"})
    assert hold.lowered == 101


@patient
@given(STEPS)
def test_no_engagement_outlasts_its_patience(steps):
    hold, since = Hold(), 0
    for sign, unrest in steps:
        hold.add(sign=sign, unrest=unrest, lowered=False)
        since = 0 if sign else since + 1
        assert not (hold.engaged and since >= hold._patience)
        assert hold.engaged or not sign


@patient
@given(STEPS, STEPS)
def test_a_restored_hold_goes_on_as_the_original(before, after):
    original, restored = Hold(), Hold()
    for sign, unrest in before:
        original.add(sign=sign, unrest=unrest, lowered=sign)
    restored.load_state_dict(json.loads(json.dumps(original.state_dict())))
    for sign, unrest in after:
        told = original.add(sign=sign, unrest=unrest, lowered=unrest)
        assert restored.add(sign=sign, unrest=unrest, lowered=unrest) == told
