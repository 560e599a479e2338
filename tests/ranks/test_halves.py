"""Squares in two halves against exact arithmetic: any norm, on any number of ranks."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.ranks.halves import NARROW, SQUARES, WEIGHTS, WIDE, inside, weights_joined, weights_split

SCALE = 2.0**600


def exact(norms):
    """Root of the sum of squares, in whole numbers."""
    squares = sum(Fraction(norm) ** 2 for norm in norms)
    return (
        math.isqrt(int(squares * 2**2600)) / 2**1300 if squares < 2**100 else float(math.isqrt(int(squares)))
    )


def over(halves, ranks):
    share = torch.ones(1, dtype=torch.float64)
    sums = sum(halves.split(torch.tensor([norm], dtype=torch.float64), share) for norm in ranks)
    return halves.joined(sums).item()


def sizes(halves):
    return st.lists(st.one_of(st.just(0.0), st.floats(halves.least, halves.most / 8)), min_size=1, max_size=9)


@given(sizes(WIDE))
def test_every_norm_of_a_float64(ranks):
    assert over(WIDE, ranks) == pytest.approx(exact(ranks), rel=1e-13, abs=0.0)


@given(sizes(NARROW))
def test_every_norm_of_a_float32_in_float32(ranks):
    assert over(NARROW, ranks) == pytest.approx(exact(ranks), rel=1e-6, abs=0.0)


@pytest.mark.parametrize("halves", [NARROW, WIDE])
@pytest.mark.parametrize("norm", [2.0**8, math.nextafter(2.0**8, 0.0), 1.0, math.nextafter(1.0, 0.0)])
def test_at_the_border(halves, norm):
    assert over(halves, [norm, norm, norm / 3]) == pytest.approx(exact([norm, norm, norm / 3]), rel=1e-6)


@pytest.mark.parametrize("halves", [NARROW, WIDE])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_rank_that_has_none(halves, bad):
    assert repr(over(halves, [1.0, bad, 1e-30])) == repr(bad)


@given(st.lists(st.one_of(st.just(0.0), st.floats(*WEIGHTS)), min_size=1, max_size=9))
def test_weights_in_one_float32(ranks):
    share = torch.ones(1, dtype=torch.float64)
    sums = sum(weights_split(torch.tensor([norm]).double(), share) for norm in ranks)
    assert weights_joined(sums).item() == pytest.approx(exact(ranks), rel=1e-6, abs=0.0)


@given(st.lists(st.floats(min_value=0.0), min_size=1, max_size=5))
def test_what_is_outside_is_left_out(norms):
    given_ = torch.tensor(norms, dtype=torch.float64)
    kept, found = inside(given_, *SQUARES)
    out = [math.isfinite(n) and n != 0.0 and not SQUARES[0] <= n <= SQUARES[1] for n in norms]
    assert found == any(out)
    assert kept.tolist() == pytest.approx(
        [0.0 if o else n for n, o in zip(norms, out, strict=True)], nan_ok=True
    )
