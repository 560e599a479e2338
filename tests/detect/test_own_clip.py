from __future__ import annotations

import math

import pytest

from steadygrad.detect import Context
from steadygrad.detect.own_clip import OwnClipIsStepLimiter, OwnClipState

PLAIN = Context(())
ADAM = Context((), step_bound=7.27)


def over(pairs, lr=0.1, context=PLAIN):
    detector, state, found = OwnClipIsStepLimiter(), OwnClipState(), []
    for step, (before, after) in enumerate(pairs):
        state, finding = detector.observe(state, step, before, after, lr, context)
        found += [finding] if finding else []
    return found


def test_a_clip_that_scales_nearly_every_step_is_told_once():
    pairs = [(8.0, 8.0)] * 3 + [(20.0, 1.0)] * 400
    (finding,) = over(pairs)
    assert (finding.kind, finding.severity, finding.step) == ("clip_is_step_limiter", "warning", 0)
    assert finding.evidence == {
        "share": 0.94,
        "steps": 50,
        "ceiling": 8.0,
        "median_clip_coef": 0.05,
        "effective_lr": pytest.approx(0.005),
    }


@pytest.mark.parametrize("before", [1.0, 1.0000001, 0.5])
def test_a_clip_that_catches_outliers_is_silent(before):
    assert not over([(before, min(before, 1.0)), (50.0, 1.0)] * 200)
    assert not over([(before, min(before, 1.0))] * 400)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_what_is_no_norm_does_not_count(bad):
    assert not over([(bad, 0.0)] * 400)
    (finding,) = over([(4.0, 1.0), (bad, math.nan)] * 60)
    assert finding.evidence["steps"] == 50


def test_a_clip_that_begins_late_is_found_late():
    (finding,) = over([(1.0, 1.0)] * 100 + [(4.0, 2.0)] * 100)
    assert (finding.step, finding.evidence["ceiling"]) == (100, 2.0)


@pytest.mark.parametrize(
    ("factor", "context", "severity"),
    [
        (0.9, PLAIN, "info"),
        (0.05, PLAIN, "warning"),
        (0.05, ADAM, "info"),
        (1e-4, ADAM, "warning"),
    ],
)
def test_a_clip_is_only_warned_of_where_it_takes_most_of_the_step_away(factor, context, severity):
    (finding,) = over([(1.0, factor)] * 60, context=context)
    assert finding.severity == severity
