from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.streams import norms_of_any_size, patient, poison

from steadygrad.policies.footing import CALM, HEARD, HOT, REACH, RECENT, RECURRING, SLIP, SPIKE, Footing

STREAMS = st.lists(st.one_of(st.floats(1e-3, 1e3), norms_of_any_size(), poison()), max_size=160)
SPANS = st.floats(1e-6, 1e6)
DEPTHS = st.sampled_from([0.05, 1.0, math.sqrt(20)])


def stood(stream):
    footing = Footing()
    for norm in stream:
        footing.add(norm)
    return footing


def usable(stream):
    return [math.log(norm) for norm in stream if math.isfinite(norm) and norm > 0.0]


@patient
@given(STREAMS)
def test_the_spike_limit_stands_above_window_and_last_steps(stream):
    logs = usable(stream)
    want = math.inf
    if len(logs) >= 2:
        low, typical = np.quantile(logs[-80:], [0.05, 0.25])
        base = max(typical, np.quantile(logs[-8:], 0.25))
        want = SPIKE * math.exp(base + min(typical - low, math.log(10)))
    assert stood(stream).spike_limit() == pytest.approx(want, rel=1e-9)


@patient
@given(STREAMS, SPANS, DEPTHS)
def test_the_slip_limit_is_where_reach_or_growth_times_reach_is_used_up(stream, span, depth):
    footing, logs = stood(stream), usable(stream)
    limit = footing.slip_limit(span, depth)
    reach = limit / span
    at_start = reach * depth / REACH if len(stream) < 10 else 0.0
    if len(logs) < 2:
        assert at_start == pytest.approx(1.0) if len(stream) < 10 else limit == math.inf
        return
    usual = max(np.quantile(logs[-80:], 0.25), np.quantile(logs[-8:], 0.25))
    growth = limit / math.exp(usual)
    assert max(at_start, growth * reach * min(depth, 1.0) / SLIP) == pytest.approx(1.0)


@patient
@given(STREAMS, SPANS, DEPTHS)
def test_calm_ends_long_before_the_reach_of_a_slip(stream, span, depth):
    assert stood(stream).calm_limit(span, depth) == pytest.approx(CALM * span / depth)
    assert stood([]).slip_limit(span, depth) > 5.0 * Footing.calm_limit(span, depth)


@pytest.mark.parametrize(("share", "hot"), [(0.5, False), (0.9, True)])
def test_steps_that_are_too_long_for_too_many_of_the_last_are_hot(share, hot):
    footing = Footing()
    for i in range(64):
        footing.add(1.0, 2.0 * HOT if i % 20 < 20 * share else 0.1 * HOT)
    assert footing.hot == hot


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0])
def test_what_is_no_reach_says_nothing(bad):
    footing = Footing()
    for _ in range(31):
        footing.add(1.0, 2.0 * HOT)
    footing.add(1.0, bad)
    assert not footing.hot


def test_a_loss_that_leaves_its_plateau_does_not_slip():
    footing, span = Footing(), 10.0
    for norm in [0.1] * 80 + [0.1 * 1.2**i for i in range(26)]:
        assert norm < footing.slip_limit(span, 1.0)
        footing.add(norm)


def test_an_explosion_from_the_same_plateau_does():
    footing, span, slipped = stood([0.1] * 80), 10.0, False
    for norm in (0.1 * 3.0**i for i in range(6)):
        slipped |= norm > footing.slip_limit(span, 1.0)
        footing.add(norm)
    assert slipped


@patient
@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=40), SPANS, st.integers(-30, 30))
def test_limits_scale_with_the_loss(stream, span, exponent):
    scale = 2.0**exponent
    one, other = stood(stream), stood([norm * scale for norm in stream])
    assert other.spike_limit() == pytest.approx(scale * one.spike_limit())
    assert other.slip_limit(span * scale, 2.0) == pytest.approx(scale * one.slip_limit(span, 2.0))


def test_the_typical_norm_ignores_bad_batches_in_two_of_three_steps():
    assert stood([1.0, 20.0, 9.0] * 50).spike_cap() == pytest.approx(1.0)


@pytest.mark.parametrize("rise", [3.0, 10.0, 100.0, 1e6])
def test_a_lasting_rise_becomes_typical(rise):
    footing = stood([1.0] * 128 + [rise] * 61)
    assert footing.spike_cap() == pytest.approx(rise)


@pytest.mark.parametrize(("every", "recurs"), [(10, True), (RECENT // RECURRING, True), (40, False)])
def test_spikes_that_recur_are_known_and_heard(every, recurs):
    footing = stood([1.0] * 40 + [1e4 if i % every == 0 else 1.0 for i in range(20 * every)])
    assert footing.recurring is recurs
    assert footing.spike_cap() == pytest.approx(HEARD if recurs else 1.0)
    footing = stood([1.0] * 40 + [1e4 if i % every == 0 else 1.0 for i in range(20 * every)] + [1.0] * RECENT)
    assert not footing.recurring


def test_spikes_in_a_row_are_one():
    assert not stood([1.0] * 40 + [1e4] * 7 + [1.0] * 20 + [1e4] * 7).recurring


def test_a_level_is_no_longer_sudden_after_eight_steps_of_it():
    footing = stood([1.0] * 128 + [1000.0] * 8)
    assert footing.spike_limit() > 1000.0


def test_steps_without_gradient_do_not_make_every_other_step_a_spike():
    footing = stood([0.0, 0.0, 0.0, 1.0] * 20)
    assert footing.spike_cap() == pytest.approx(1.0)


@patient
@given(STREAMS, STREAMS)
def test_a_restored_footing_goes_on_as_the_original(before, after):
    original, restored = stood(before), stood([7.0])
    restored.load_state_dict(json.loads(json.dumps(original.state_dict())))
    for norm in after:
        original.add(norm)
        restored.add(norm)
    assert restored.spike_limit() == original.spike_limit()
    assert restored.slip_limit(1.0, 2.0) == original.slip_limit(1.0, 2.0)


def test_steps_without_a_gradient_cool_down():
    footing = Footing()
    for _ in range(40):
        footing.add(1.0, 2.0)
    assert footing.hot
    for _ in range(32):
        footing.add(0.0)
    assert not footing.hot
