from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.detect.signals import Fired, SignalDetector, Signals
from steadygrad.detect.through_time import through_time

RELU = Fired("head", dead=0.3, low=0.0, high=4.0, beyond=0.5, inside=0.6, ends=0.7)
TANH = Fired("head", dead=0.0, low=-1.0, high=1.0, beyond=0.2, inside=1.0, ends=0.5)
SIGMOID = Fired("head", dead=0.0, low=0.0, high=1.0, beyond=0.1, inside=1.0, ends=0.2)


@dataclass(frozen=True)
class Growth:
    module: str = "rnn"
    grad_norms: tuple[float, ...] = (1.0,) * 50
    gated: bool = False
    both_ways: bool = False
    per_step: float = 1.0
    rise: float = 1.0
    amplified: float = math.inf
    total: float = 1.0
    horizon: int = 50


def told(looks, every=1, first=0):
    detector, found = SignalDetector(), []
    state = detector.start()
    for place, look in enumerate(looks):
        layers = (look,) if isinstance(look, Fired) else look
        state, news = detector.observe(state, Signals(first + place * every, layers))
        found += news
    return found


def test_dead_units_are_told_at_the_third_look_and_once():
    dead = replace(RELU, dead=0.95)
    assert not told([dead, dead, RELU, dead, dead])
    (finding,) = told([dead] * 9)
    assert (finding.kind, finding.severity, finding.step, finding.where) == (
        "dead_units",
        "warning",
        2,
        ("head",),
    )
    assert finding.evidence["share"] == pytest.approx(0.95)


def test_the_worst_layer_comes_first():
    layers = (replace(RELU, module="a", dead=0.91), replace(RELU, module="b", dead=1.0))
    (finding,) = told([layers] * 3)
    assert finding.where == ("b", "a")


@pytest.mark.parametrize("stuck", [replace(TANH, beyond=0.8), replace(SIGMOID, ends=0.9)])
def test_saturation_is_a_warning_early_and_a_note_late(stuck):
    assert [f.severity for f in told([stuck] * 4)] == ["warning"]
    late = [TANH] * 3 + [stuck] * 4
    assert [f.severity for f in told(late, every=100)] == ["info"]


@pytest.mark.parametrize("look", [RELU, TANH, SIGMOID, replace(RELU, ends=1.0, beyond=1.0)])
def test_healthy_signals_are_silent(look):
    assert not told([look] * 50)


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 0.5, math.nan, math.inf, -math.inf]), min_size=6, max_size=6),
        max_size=8,
    )
)
def test_no_numbers_raise(rows):
    for finding in told([Fired("a", *row) for row in rows]):
        assert finding.summary


@pytest.mark.parametrize(
    ("growth", "kind", "severity"),
    [
        (Growth(), None, None),
        (Growth(rise=1e5, per_step=1.3), "exploding_in_time", "warning"),
        (Growth(rise=1e9, per_step=1.6), "exploding_in_time", "error"),
        (Growth(rise=1e5, per_step=1.3, amplified=1e3), "exploding_in_time", "warning"),
        (Growth(rise=1e9, per_step=1.6, amplified=2.0), None, None),
        (Growth(total=1e-12, per_step=0.6), "vanishing_in_time", "warning"),
        (Growth(total=1e-12, per_step=0.5, gated=True), "vanishing_in_time", "info"),
        (Growth(total=1e-12, per_step=0.1, gated=True), "vanishing_in_time", "warning"),
        (Growth(total=1e-3), None, None),
    ],
)
def test_growth_through_time(growth, kind, severity):
    finding = through_time(growth, 7)
    assert (finding and finding.kind, finding and finding.severity) == (kind, severity)
    if finding:
        assert (finding.step, finding.where) == (7, ("rnn",))


def test_growth_through_time_is_told_once_and_again_when_worse():
    detector = SignalDetector()
    state, first = detector.observe(detector.start(), Signals(0, time=(Growth(rise=1e5),)))
    state, same = detector.observe(state, Signals(1, time=(Growth(rise=1e6),)))
    _, worse = detector.observe(state, Signals(2, time=(Growth(rise=1e12),)))
    assert [f.severity for f in (*first, *same, *worse)] == ["warning", "error"]
