"""Squares beside the norms of the step before: any float64 that a factor of 1e150 leads to, in one word."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from steadygrad.ranks.near import MOST, Near

SHARE = torch.ones(1, dtype=torch.float64)
norms = st.one_of(st.just(0.0), st.floats(1e-290, 1e290))


def one(value):
    return torch.tensor([value], dtype=torch.float64)


def over(near, ranks):
    return near.joined(sum(near.split(one(norm), SHARE) for norm in ranks))


@given(norms, st.lists(norms, min_size=1, max_size=9))
def test_a_norm_that_has_changed_by_less_is_exact(before, ranks):
    scale = before or 1.0
    assume(all(norm == 0.0 or 1 / MOST < norm / scale < MOST for norm in ranks))
    near = Near()
    near.keep(one(before))
    assert over(near, ranks).item() == pytest.approx(
        scale * math.hypot(*(n / scale for n in ranks)), rel=1e-12
    )


@given(norms, st.lists(norms, min_size=1, max_size=9))
def test_what_is_finite_stays_finite_and_what_is_nothing_nothing(before, ranks):
    near = Near()
    near.keep(one(before))
    told = over(near, ranks).item()
    if before <= 1e100:
        assert math.isfinite(told)
    if before == 0.0 or before >= 1e-100:
        assert (told == 0.0) == (not any(ranks))


@pytest.mark.parametrize("ill", [math.nan, math.inf])
def test_what_is_ill_is_told_and_forgotten(ill):
    near = Near()
    assert not math.isfinite(near.keep(over(near, [1.0, ill])).item())
    assert over(near, [3.0, 4.0]).item() == pytest.approx(5.0)
