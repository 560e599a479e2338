from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.reference import autoclip_factors
from tests.policies.streams import factors, norms_of_any_size, patient, poison, similar_norms

from steadygrad.policies import autoclip

STREAMS = st.lists(st.one_of(similar_norms(), norms_of_any_size(), poison()), max_size=40)


@patient
@given(STREAMS, st.floats(0.0, 100.0), st.integers(1, 12))
def test_factors_match_the_reference(stream, percentile, window):
    want = autoclip_factors(stream, percentile, window)
    assert factors(autoclip(percentile, window), stream) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("percentile", [0, 1, 10, 50, 100])
def test_a_lasting_rise_is_followed_within_the_window_at_any_percentile(percentile):
    after = factors(autoclip(percentile), [1.0] * 200 + [50.0] * 65)[200:]
    assert after[-1] == pytest.approx(1.0)
    assert (after[0] < 0.021) or percentile == 100


def test_nine_steps_in_ten_are_scaled_by_default():
    stream = [1.0 + 0.01 * ((7 * i) % 64) for i in range(640)]
    share = sum(factor < 1.0 for factor in factors(autoclip(), stream)[64:]) / (640 - 64)
    assert share == pytest.approx(0.9, abs=0.02)


def test_steps_without_gradient_do_not_close_the_clip():
    assert factors(autoclip(), [1.0] * 20 + [0.0] * 100 + [1.0])[-1] == pytest.approx(1.0)


def test_the_second_step_is_already_protected():
    assert factors(autoclip(), [1.0, 1000.0]) == pytest.approx([1.0, 1e-3])
