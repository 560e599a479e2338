from __future__ import annotations

import numpy as np
import pytest

from steadygrad.detect import over


def found(stream, context, losses, kind="loss_spike", **fields):
    readings = stream(np.ones((len(losses), 2)), loss=[float(x) for x in losses], **fields)
    return [f for f in over(readings, context(2)) if f.kind == kind]


def course(seed, steps=400, noise=0.1):
    rng = np.random.default_rng(seed)
    return 2.3 * np.exp(-np.arange(steps) / 60.0) + 0.1 + noise * np.abs(rng.normal(size=steps))


HEALTHY = {
    "falling": lambda rng, t: 2.3 * np.exp(-t / 60) + 0.05 * np.exp(rng.normal(size=t.size)),
    "one example at a time": lambda rng, t: rng.exponential(size=t.size) ** 3 * np.exp(-t / 200),
    "heavy tailed": lambda rng, t: np.abs(rng.standard_t(1.5, size=t.size)),
    "policy gradient": lambda rng, t: 20.0 * rng.normal(size=t.size) - t / 50,
    "negative": lambda rng, t: -t / 100 + rng.normal(size=t.size),
    "adversarial": lambda rng, t: 1 + np.sin(t / 15) + 0.3 * rng.random(t.size) + t / 300,
    "constant": lambda rng, t: np.ones(t.size),
    "zero": lambda rng, t: np.zeros(t.size),
}


@pytest.mark.parametrize("shape", HEALTHY)
def test_healthy_losses_raise_no_warning(stream, context, shape):
    for seed in range(15):
        rng = np.random.default_rng(seed)
        losses = HEALTHY[shape](rng, np.arange(600.0))
        readings = stream(np.ones((600, 2)), loss=[float(x) for x in losses])
        loud = [f for f in over(readings, context(2)) if f.severity != "info"]
        assert not loud, (shape, seed, loud)


def test_one_bad_batch_is_a_note(stream, context):
    losses = course(0)
    losses[200] = 40.0
    (finding,) = found(stream, context, losses)
    assert (finding.severity, finding.step) == ("info", 200)
    assert finding.evidence["loss"] == 40.0


def test_a_spike_that_stays_is_a_warning_after_eight_steps(stream, context):
    losses = course(0)
    losses[200:230] = 9.0
    assert [f.severity for f in found(stream, context, losses[:207])] == ["info"]
    finding = found(stream, context, losses[:208])[-1]
    assert (finding.severity, finding.step) == ("warning", 200)


def test_a_rise_below_the_start_or_after_a_raised_rate_stays_a_note(stream, context):
    losses = course(0)
    losses[300:] = 1.5
    assert [f.severity for f in found(stream, context, losses)] == ["info"]
    losses[300:] = 9.0
    lr = [0.01] * 295 + [0.1] * 105
    assert [f.severity for f in found(stream, context, losses, lr=lr)] == ["info"]


def test_another_task_that_is_learnt_like_the_first_stays_a_note(stream, context):
    losses = course(0)
    losses[200:] = 12.0 * np.exp(-np.arange(200) / 10.0) + 0.1
    assert [f.severity for f in found(stream, context, losses)] == ["info"]


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e6, 0.0), (1.0, -50.0)])
def test_neither_scale_nor_sign_of_the_loss_matters(stream, context, scale, shift):
    losses = course(1)
    losses[250:270] = 30.0
    plain = found(stream, context, losses)
    moved = found(stream, context, losses * scale + shift)
    assert [(f.severity, f.step) for f in plain] == [(f.severity, f.step) for f in moved]
    assert plain


def test_broken_losses_don_t_enter_the_statistics(stream, context):
    losses = course(2)
    losses[100:160:3] = np.nan
    losses[250:270] = 30.0
    assert [f.step for f in found(stream, context, losses)] == [250, 250]


def test_a_rate_raised_beyond_all_before_is_blamed_and_a_restart_is_not(stream, context):
    losses = [*(1.0 + 0.01 * np.sin(np.arange(120.0))), *np.full(20, 50.0)]
    beyond = [0.1] * 118 + [1.0] * 22
    (finding,) = found(stream, context, losses, "learning_rate_too_high", lr=beyond)
    assert (finding.severity, finding.step) == ("warning", 120)
    restart = [1.0] * 20 + [0.1] * 98 + [1.0] * 22
    assert not found(stream, context, losses, "learning_rate_too_high", lr=restart)
