from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.reference import zclip_factors
from tests.policies.streams import factors, norms_of_any_size, patient, poison, similar_norms

from steadygrad.policies import zclip

STREAMS = st.lists(st.one_of(similar_norms(), norms_of_any_size(), poison()), max_size=40)


@patient
@given(STREAMS, st.floats(0.5, 5.0), st.sampled_from([0.7, 0.9, 0.97]))
def test_factors_match_the_reference(stream, z_threshold, alpha):
    want = zclip_factors(stream, z_threshold, alpha)
    assert factors(zclip(z_threshold, alpha), stream) == pytest.approx(want, rel=1e-9)


def test_the_wilder_a_spike_the_closer_to_the_median_it_lands():
    history = [1.0, 1.1, 0.9, 1.05, 0.95] * 6
    landed = [spike * factors(zclip(), [*history, spike])[-1] for spike in (1.5, 3.0, 30.0, 3e6)]
    assert landed == sorted(landed, reverse=True)
    assert landed[0] < 1.5
    assert landed[-1] == pytest.approx(1.0, rel=0.03)


def test_a_norm_below_the_cap_is_untouched_and_above_it_is_scaled():
    policy = zclip()
    factors(policy, [1.0, 1.2, 0.8, 1.1, 0.9] * 4)
    below, above = policy.cap * 0.999, policy.cap * 1.001
    assert factors(policy, [below])[0] == 1.0
    assert factors(policy, [1.0, above])[1] < 1.0


def test_a_spike_in_the_warm_up_does_not_hide_the_next_ones():
    stream = [1.0, 1000.0, 1.1, 0.9, 1.0, 1.05, 0.95, 500.0, 1.0, 50.0]
    out = factors(zclip(), stream)
    assert out[7] * 500.0 < 1.6
    assert out[9] * 50.0 < 1.6


def test_healthy_noise_is_rarely_touched():
    stream = [math.exp(0.1 * math.sin(12.9898 * i * i)) for i in range(1000)]
    assert sum(factor < 1.0 for factor in factors(zclip(), stream)) <= 5


def test_a_fifth_of_wild_steps_does_not_open_the_clip():
    stream = [100.0 if i % 5 == 4 else 1.0 + 0.01 * (i % 7) for i in range(300)]
    landed = [norm * factor for norm, factor in zip(stream, factors(zclip(), stream), strict=True)]
    assert max(landed[10:]) < 1.5


def test_norms_up_to_the_largest_double_are_fine():
    policy = zclip()
    assert factors(policy, [1.7e308] * 10) == [1.0] * 10
    assert policy.cap == math.inf
