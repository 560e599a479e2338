from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.report.live.pace import LEAST_S, MOST_S, PATIENCE_S, SHARE, Pace


@pytest.mark.parametrize(
    ("took_s", "wait_s"),
    [
        (0.0, LEAST_S),
        (0.001, LEAST_S),
        (0.06, SHARE * 0.06),
        (1.0, MOST_S),
        (math.inf, MOST_S),
        (math.nan, MOST_S),
    ],
)
def test_it_paints_a_twentieth_of_the_time(took_s, wait_s):
    pace = Pace()
    pace.painted(pace.sent(0.0), took_s)
    assert not pace.due(wait_s - 1e-6)
    assert pace.due(wait_s + 1e-6)


@given(
    st.lists(
        st.tuples(st.floats(0, 60), st.sampled_from(["answer", "old answer", "hurry", "none"]), st.floats())
    )
)
def test_nothing_holds_pictures_up_for_ever(story):
    pace, now_s = Pace(), 0.0
    for after_s, what, took_s in story:
        now_s += after_s
        number = pace.sent(now_s) if pace.due(now_s) else "0"
        if what == "answer":
            pace.painted(number, took_s)
        elif what == "old answer":
            pace.painted(str(int(number) - 1), took_s)
        elif what == "hurry":
            pace.hurry()
            assert pace.due(now_s)
        assert pace.due(now_s + 1.01 * PATIENCE_S)


def test_an_answer_to_earlier_pictures_is_none_to_these():
    pace = Pace()
    first = pace.sent(0.0)
    pace.sent(PATIENCE_S)
    pace.painted(first, 0.0)
    assert not pace.due(PATIENCE_S + MOST_S)
