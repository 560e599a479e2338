from __future__ import annotations

import numpy as np
import pytest

from steadygrad.detect import over


def found(stream, context, losses, norms=None, kind="divergence"):
    norms = np.ones((len(losses), 2)) if norms is None else norms
    readings = stream(norms, loss=[float(x) for x in losses])
    return [f for f in over(readings, context(2)) if f.kind == kind]


def test_a_loss_that_climbs_and_stays_has_diverged(stream, context):
    losses = np.concatenate([np.linspace(2.3, 0.5, 100), np.linspace(0.5, 60.0, 60), np.full(100, 60.0)])
    (finding,) = found(stream, context, losses)
    assert finding.severity == "warning"
    assert 100 <= finding.step <= 160
    assert finding.evidence["best_loss"] <= 0.8


def test_one_that_leaps_away_is_told_within_five_steps(stream, context):
    losses = np.concatenate([np.linspace(2.3, 1.0, 50), np.full(10, 1e7)])
    assert not found(stream, context, losses[:53])
    (finding,) = found(stream, context, losses[:54])
    assert (finding.severity, finding.step) == ("error", 50)


@pytest.mark.parametrize("peak", [10.0, 300.0, 3000.0])
@pytest.mark.parametrize("steps", [6, 18])
def test_a_catapult_lands_and_is_not_called_divergence_nor_a_rate_too_high(stream, context, peak, steps):
    rise = np.exp(np.linspace(0.0, np.log(peak), steps))
    losses = np.concatenate([rise, rise[::-1], np.linspace(1.0, 0.01, 100)])
    norms = np.sqrt(losses)[:, None] * np.ones((losses.size, 2))
    readings = stream(norms, loss=[float(x) for x in losses])
    kinds = {f.kind for f in over(readings, context(2)) if f.severity != "info"}
    assert not kinds & {"divergence", "learning_rate_too_high", "loss_spike"}


def test_a_slowly_growing_loss_of_a_value_function_is_left_alone(stream, context):
    rng = np.random.default_rng(0)
    losses = np.linspace(0.5, 40.0, 4000) * np.exp(0.3 * rng.normal(size=4000))
    assert not found(stream, context, losses)


def test_noise_is_no_divergence(stream, context):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert not found(stream, context, 30.0 * rng.normal(size=800))
