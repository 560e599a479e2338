from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.detect.scale import Size, loud_start, unnormalised_input

ANY = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("scale", "told"), [(0.0, 0), (9.9, 0), (10.1, 1), (1e5, 1), (math.inf, 0), (math.nan, 0)]
)
def test_data_is_large_beyond_ten(scale, told):
    assert bool(unnormalised_input(0, [Size("a", scale, -1.0, 1.0)])) == told


def test_the_largest_data_is_named():
    sizes = [Size("a", 12.0, 0.0, 1.0), Size("b", 40.0, 0.0, 99.0), Size("c", math.nan, 0.0, 1.0)]
    finding = unnormalised_input(3, sizes)
    assert (finding.step, finding.where) == (3, ("input", "b"))
    assert "99" in finding.summary


@pytest.mark.parametrize(
    ("data", "made", "told"), [(1.0, 900.0, 0), (1.0, 1100.0, 1), (0.01, 900.0, 0), (50.0, 4e4, 0)]
)
def test_loud_is_relative_to_the_data(data, made, told):
    layers = [Size("b", made, 0.0, 1.0), Size("c", 1.0, 0.0, 1.0)]
    assert bool(loud_start(0, [Size("a", data, 0.0, 1.0)], layers)) == told


def test_the_last_layer_alone_speaks_in_the_unit_of_the_targets():
    assert loud_start(0, (), [Size("a", 1.0, 0.0, 1.0), Size("b", 3e5, 0.0, 1.0)]) is None
    assert loud_start(0, (), [Size("a", 3e5, 0.0, 1.0)]) is None
    assert loud_start(0, (), [Size("a", 3e5, 0.0, 1.0)], 2.6) is None
    assert loud_start(0, (), [Size("a", 3e5, 0.0, 1.0)], 1.001) is not None


def test_the_first_loud_layer_comes_before_the_loudest():
    made = [Size("a", 5.0, 0.0, 1.0), Size("b", 2e3, 0.0, 1.0), Size("c", 8e6, 0.0, 1.0)]
    assert loud_start(1, (), made).where == ("b", "c")


@given(st.lists(st.tuples(ANY, ANY, ANY), max_size=4), st.lists(st.tuples(ANY, ANY, ANY), max_size=4))
def test_no_numbers_raise(fed, made):
    sizes = [Size("a", *one) for one in fed]
    unnormalised_input(0, sizes)
    loud_start(0, sizes, [Size("b", *one) for one in made])
