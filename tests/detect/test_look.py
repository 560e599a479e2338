from __future__ import annotations

import math

import numpy as np
import pytest

from steadygrad.detect.look import MOST_MODULES, MOST_PLACES, look, next_kept
from steadygrad.detect.signals import Fired, Signals
from steadygrad.gains import TimeGain


def fired(name, dead=0.0, low=-1.0, high=1.0, beyond=0.0):
    return Fired(name, dead, low, high, beyond, 1.0, 0.0)


def test_the_worst_layer_of_each_kind_is_named():
    layers = (fired("a", dead=0.5), fired("b", beyond=0.9, dead=0.1), fired("c", high=7.0, beyond=0.3))
    made = look(Signals(4, layers))
    assert (made.step, made.layers) == (4, 3)
    assert (made.dead, made.dead_in, made.dead_mean) == (0.5, "a", pytest.approx(0.2))
    assert (made.saturated, made.saturated_in) == (0.9, "b")
    assert (made.largest, made.largest_in) == (7.0, "c")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_the_largest(bad):
    made = look(Signals(0, (fired("a", low=-9.0), fired("b", low=-bad, high=bad))))
    assert (made.largest, made.largest_in) == (math.inf, "b")


def test_without_layers_there_are_no_shares():
    made = look(Signals(0))
    assert made.layers == 0
    assert math.isnan(made.dead)


def test_a_long_sequence_is_thinned_and_keeps_its_ends():
    norms = tuple(0.99 ** np.arange(999, -1, -1))
    made = look(Signals(0, (), (TimeGain("rnn", norms),) * 9)).through_time
    assert len(made) == MOST_MODULES
    assert (made[0].length, len(made[0].norms)) == (1000, MOST_PLACES)
    assert (made[0].places[0], made[0].places[-1]) == (0, 999)
    assert made[0].norms == pytest.approx([norms[i] for i in made[0].places])
    assert made[0].gain == pytest.approx(0.99)


def test_a_gradient_of_zero_is_kept_as_zero():
    assert look(Signals(0, (), (TimeGain("rnn", (0.0, 0.0)),))).through_time[0].norms == (0.0, 0.0)


def test_a_million_steps_keep_a_few_hundred_looks():
    kept, step = 0, 0
    while step < 1_000_000:
        kept, step = kept + 1, next_kept(step)
    assert kept < 600
