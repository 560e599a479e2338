from __future__ import annotations

import numpy as np
import pytest

from steadygrad.detect import over


def kinds(findings, least="warning"):
    ranks = ("info", "warning", "error")
    return [f for f in findings if ranks.index(f.severity) >= ranks.index(least)]


def noise(seed, steps, size=4, sigma=0.3):
    rng = np.random.default_rng(seed)
    return np.exp(sigma * rng.normal(size=(steps, 1)) + 0.2 * rng.normal(size=(steps, size)))


HEALTHY = {
    "calm": lambda t, rng: np.ones_like(t),
    "falls a thousandfold": lambda t, rng: np.exp(-6.9 * t / t.size),
    "falls at once": lambda t, rng: np.where(t < 5, 1e3, 1.0),
    "warm-up bump": lambda t, rng: 1 + 9 * np.exp(-(((t - 80) / 40) ** 2)),
    "slow rise": lambda t, rng: 1 + 4 * t / t.size,
    "level shift": lambda t, rng: np.where(t < 250, 1.0, 10.0),
    "spikes": lambda t, rng: np.where(rng.random(t.size) < 0.01, 20.0, 1.0),
    "converges, then jumps": lambda t, rng: np.where((t > 300) & (t < 320), 1e-3, np.exp(-0.05 * t)),
}


@pytest.mark.parametrize("shape", HEALTHY)
@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0])
def test_healthy_runs_stay_silent(stream, context, shape, sigma):
    for seed in range(12):
        rng = np.random.default_rng(1000 + seed)
        trend = HEALTHY[shape](np.arange(500.0), rng)
        norms = noise(seed, 500, sigma=sigma) * trend[:, None]
        assert not kinds(over(stream(norms), context(4))), (shape, sigma, seed)


def test_noisy_runs_with_spikes_stay_below_warning_over_many_seeds(stream, context):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        spikes = np.where(rng.random((300, 1)) < 0.01, 20.0, 1.0)
        assert not kinds(over(stream(noise(seed, 300, size=2, sigma=1.0) * spikes), context(2))), seed


@pytest.mark.parametrize("factor", [1.05, 1.2, 2.0, 10.0])
@pytest.mark.parametrize("onset", [0, 100])
def test_growth_without_end_is_found(stream, context, factor, onset):
    growth = factor ** np.clip(np.arange(400.0) - onset, 0.0, 200.0)[:, None]
    norms = noise(0, 400, sigma=0.1) * growth
    found = kinds(over(stream(norms), context(4)))
    assert found
    reached = growth[min(f.step for f in found)].item()
    assert reached <= 1e3
    assert {f.kind for f in found} == {"exploding_gradient"}


def test_growth_per_step_is_measured(stream, context):
    norms = 3.0 ** np.arange(10.0)[:, None] * np.ones((10, 2))
    finding = over(stream(norms), context(2))[0]
    assert (finding.kind, finding.severity, finding.step) == ("exploding_gradient", "error", 0)
    assert finding.evidence["growth_per_step"] == pytest.approx(3.0)


@pytest.mark.parametrize("jump", [2e3, 1e9])
def test_a_jump_at_the_second_step_is_found_at_once(stream, context, jump):
    found = over(stream(np.array([[1.0, 0.1], [jump, 0.1]])), context(2))
    assert [(f.severity, f.step, f.where[0]) for f in found] == [("error", 1, "layer0.weight")]


def test_a_single_spike_is_an_info_and_names_its_tensor(stream, context):
    norms = noise(0, 200, sigma=0.1)
    norms[120, 2] *= 300.0
    (finding,) = over(stream(norms), context(4))
    assert (finding.severity, finding.step, finding.where) == ("info", 120, ("layer2.weight",))
    assert finding.evidence["leader_share"] > 0.99


def test_a_lasting_lift_becomes_a_warning_after_four_steps(stream, context):
    norms = noise(0, 200, sigma=0.05)
    norms[120:] *= 60.0
    assert not kinds(over(stream(norms[:123]), context(4)))
    (finding,) = kinds(over(stream(norms[:124]), context(4)))
    assert (finding.severity, finding.step) == ("warning", 120)
    assert finding.evidence["factor"] == pytest.approx(60.0, rel=0.3)


def test_a_millionfold_jump_does_not_wait(stream, context):
    norms = noise(0, 100, sigma=0.3)
    norms[90:] *= 1e7
    (finding,) = kinds(over(stream(norms[:91]), context(4)))
    assert finding.severity == "error"


def test_finite_norms_whose_total_overflows_count(stream, context):
    norms = np.ones((60, 2))
    norms[50:] = 1e200
    found = over(stream(norms), context(2))
    assert found[0].kind == "exploding_gradient"
    assert found[0].step == 50


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_readings_leave_the_statistics_alone(stream, context, bad):
    norms = noise(3, 300, sigma=0.2)
    norms[100:140:4] = bad
    norms[200:] *= 100.0
    found = [f for f in kinds(over(stream(norms), context(4))) if f.kind == "exploding_gradient"]
    assert [f.step for f in found] == [200]


def test_the_summary_tells_the_norm_and_the_step(stream, context):
    norms = np.ones((40, 2))
    norms[30:] = 1e7
    finding = over(stream(norms), context(2))[0]
    assert "times its usual size (norm 1.4e+07 at step 30)" in finding.summary
