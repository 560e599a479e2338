import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.runfile.scalars import from_points, join, pack, thin, unpack

POINTS = st.lists(st.tuples(st.integers(0, 2**40), st.text(max_size=3), st.floats()), max_size=40)


def as_points(scalars):
    return [
        (int(step), scalars.names[name], float(value))
        for step, name, value in zip(scalars.step, scalars.name, scalars.value, strict=True)
    ]


def same(a, b):
    return len(a) == len(b) and all(
        x[:2] == y[:2] and (x[2] == y[2] or (math.isnan(x[2]) and math.isnan(y[2])))
        for x, y in zip(a, b, strict=True)
    )


@given(POINTS)
def test_points_come_back_exactly(points):
    assert same(as_points(unpack(pack(from_points(points)))), points)


@given(POINTS, POINTS)
def test_joined_points_are_all_points(a, b):
    assert same(as_points(join([from_points(a), from_points(b)])), a + b)


@given(POINTS)
def test_thinning_keeps_the_extremes_of_every_name(points):
    thinned = as_points(thin(from_points(points)))
    for name in {name for _, name, _ in points}:
        before = [value for _, n, value in points if n == name]
        after = [value for _, n, value in thinned if n == name]
        assert any(map(math.isnan, before)) == any(map(math.isnan, after))
        finite = [value for value in before if not math.isnan(value)]
        if finite and len(finite) == len(before):
            assert (min(finite), max(finite)) == (min(after), max(after))


def test_thinning_halves():
    points = [(step, "loss", float(np.sin(step))) for step in range(400)]
    assert len(as_points(thin(from_points(points)))) == 200
