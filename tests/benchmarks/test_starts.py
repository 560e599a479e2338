"""Looking back at a start: against the obvious way, and on starts that are loud for a good reason."""

from __future__ import annotations

import math
import statistics

import pytest
from benchmarks.starts.looking_back import FIRST, SETTLED, WINDOW, look_back
from benchmarks.starts.record import Cap, record
from benchmarks.starts.trainings import trainings
from hypothesis import given
from hypothesis import strategies as st

HARMED = [1.0, 90.0, *[1.0] * (WINDOW - 2)]
LOUD = [300.0, 5000.0, *[2.0] * (WINDOW - 2)]
anything = st.floats(allow_nan=True, allow_infinity=True)
a_number = st.floats(1e-6, 1e6)
a_start = st.lists(a_number, min_size=WINDOW, max_size=WINDOW)


def test_a_first_step_that_threw_the_loss_up_for_good():
    look = look_back(LOUD, HARMED)
    assert look.is_poisoned
    assert (look.usual, look.excess, look.rise) == (2.0, 2500.0, 90.0)


@pytest.mark.parametrize(
    ("norms", "losses"),
    [
        (LOUD, [1.0, 90.0, *[1.0] * FIRST, *[0.1] * (WINDOW - 2 - FIRST)]),
        (LOUD, [100.0, 30.0, *[1.0] * (WINDOW - 2)]),
        (LOUD, [1.0, 90.0, *[2.0 * 0.98**step for step in range(WINDOW - 2)]]),
        ([2.0] * WINDOW, HARMED),
    ],
    ids=["has gained", "went downhill", "still falls", "was not loud"],
)
def test_no_poisoned_start(norms, losses):
    assert not look_back(norms, losses).is_poisoned


@pytest.mark.parametrize("bad", [math.nan, 0.0, -1.0])
def test_losses_without_multiples_say_nothing(bad):
    assert look_back(LOUD, [*HARMED[:-1], bad]) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_norms_that_are_not_finite_say_nothing(bad):
    assert look_back([bad, *LOUD[1:]], HARMED).is_poisoned
    assert look_back([bad] * WINDOW, HARMED) is None


@given(a_start, a_start)
def test_the_obvious_way(norms, losses):
    look = look_back(norms, losses)
    half = (SETTLED + WINDOW) // 2
    newest, before = (statistics.median_high(part) for part in (losses[half:], losses[SETTLED:half]))
    assert look.usual == statistics.median_high(norms[SETTLED:])
    assert look.excess == pytest.approx(max(norms[:FIRST]) / look.usual)
    assert look.rise == pytest.approx(max(losses[:FIRST]) / losses[0])
    assert look.gain == pytest.approx(newest / min(losses[:FIRST]))
    assert look.stuck == pytest.approx(newest / before)


@given(st.lists(anything, max_size=WINDOW + 9), st.lists(anything, max_size=WINDOW + 9))
def test_nothing_makes_it_raise(norms, losses):
    look = look_back(norms, losses)
    assert look is None or look.is_poisoned in {True, False}


def test_begun_anew_the_batches_of_the_window_are_used_up_and_the_cap_is_that_of_later():
    workload = trainings()[-1]
    plain = record(workload, 0, steps=WINDOW + 2)
    anew = record(workload, 0, Cap(1.0, begins_anew=True), steps=WINDOW + 2)
    assert len(plain.norms) == len(plain.losses) == WINDOW + 2
    assert len(anew.norms) == 2
    assert anew.losses[0] != plain.losses[0]
    assert anew.losses[0] != plain.losses[WINDOW]
    assert math.isfinite(anew.held_out)
