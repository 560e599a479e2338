from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steadygrad.gains.fit import growth_per_place, steepest_stretch

GARBAGE = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0])


@given(st.floats(0.1, 10.0), st.integers(3, 60), st.floats(1e-10, 1e10))
def test_a_geometric_series_gives_its_factor(factor, places, last):
    norms = [last * factor**i for i in range(places)][::-1]
    assert growth_per_place(norms) == pytest.approx(factor, rel=1e-6)


@given(st.floats(0.5, 2.0), st.data())
def test_a_few_wild_points_dont_move_it(factor, data):
    norms = [factor**i for i in range(30)][::-1]
    for place in data.draw(st.lists(st.integers(0, 29), max_size=4)):
        norms[place] = data.draw(st.one_of(GARBAGE, st.floats(1e-20, 1e20)))
    assert growth_per_place(norms) == pytest.approx(factor, rel=0.2)


@example([1.6e-160, 6.4e163])
@given(st.lists(st.one_of(GARBAGE, st.floats(allow_nan=True, allow_infinity=True)), max_size=400))
def test_nothing_makes_it_raise(norms):
    assert growth_per_place(norms) > 0
    first, last = steepest_stretch(norms)
    assert 0 <= first <= last < max(1, len(norms))


def test_the_flat_parts_are_no_part_of_the_stretch():
    assert steepest_stretch([1.0, 1.1, 0.9, 10.0, 100.0, 1000.0, 1001.0, 999.0]) == (2, 5)
    assert steepest_stretch([1000.0, 990.0, 10.0, 1.0, 1.01]) == (1, 3)


def test_thousands_of_places_take_no_time():
    assert growth_per_place([0.999**i for i in range(20_000)]) == pytest.approx(1 / 0.999, rel=1e-6)
