from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from steadygrad.detect import over


def run(stream, losses, ratio, norms=None):
    norms = np.ones((len(losses), 2)) if norms is None else norms
    readings = stream(norms, loss=[float(x) for x in losses], lr=0.3)
    for step in (0, 1, 2, 4, 8, 16, 32, 64, 128):
        if step < len(readings):
            weights = np.full(2, 5.0)
            readings[step] = replace(readings[step], param_norms=weights, update_norms=weights * ratio)
    return readings


def found(readings, context):
    return [f for f in over(readings, context(2)) if f.kind == "learning_rate_too_high"]


def test_large_steps_and_a_loss_that_lies_above_its_start(stream, context):
    losses = [2.3, *np.full(60, 5.0)]
    assert not found(run(stream, losses[:24], 0.2), context)
    (finding,) = found(run(stream, losses, 0.2), context)
    assert (finding.severity, finding.step) == ("warning", 0)  # the step that made it rise
    assert finding.evidence["largest_update_ratio"] == pytest.approx(0.2)
    assert finding.evidence["lr"] == pytest.approx(0.3)


def test_small_steps_are_not_blamed(stream, context):
    assert not found(run(stream, [2.3, *np.full(60, 5.0)], 0.01), context)


def test_large_steps_with_a_falling_loss_are_fine(stream, context):
    assert not found(run(stream, np.linspace(2.3, 0.1, 100), 0.5), context)


def test_an_explosion_of_loss_and_gradient_is_told_at_its_step(stream, context):
    growth = 50.0 ** np.arange(6.0)
    readings = run(stream, growth, 0.01, growth[:, None] * np.ones((6, 2)))
    (finding,) = found(readings, context)
    assert finding.step == 0
    assert finding.evidence["gradient_growth"] > 10


def test_noise_around_a_lucky_first_loss_is_not_blamed(stream, context):
    for seed in range(60):
        losses = 10.0 * np.random.default_rng(seed).normal(size=256)
        losses[0] = losses.min() - 0.1
        assert not found(run(stream, losses, 0.3), context), seed


def test_it_is_told_once(stream, context):
    assert len(found(run(stream, [1.0, *np.full(250, 1e6)], 0.5), context)) == 1


def explosion_after(calm):
    losses = np.array([2.3, *np.full(calm, 1.0), *1e5 ** np.arange(1.0, 4.0)])
    norms = np.where(losses > 10, 1e4, 1.0)[:, None] * np.ones((losses.size, 2))
    return losses, norms


@pytest.mark.parametrize(("calm", "raised", "told"), [(8, False, True), (70, False, False), (70, True, True)])
def test_a_run_that_was_on_course_is_blamed_on_the_rate_only_where_that_was_raised(
    stream, context, calm, raised, told
):
    losses, norms = explosion_after(calm)
    readings = run(stream, losses, 0.01, norms)
    if raised:
        readings = [replace(r, lr=30.0) if r.step > calm else r for r in readings]
    assert bool(found(readings, context)) is told


def carried(stream, losses, grown):
    readings = run(stream, losses, 0.03)
    for step in (0, 1, 2, 4, 8, 16, 32, 64, 128):
        if step < len(readings):
            weights = np.full(2, 5.0 * grown ** (step / 64))
            readings[step] = replace(readings[step], param_norms=weights)
    return readings


def test_weights_that_were_carried_away_while_the_loss_stayed(stream, context):
    noise = 0.04 * np.random.default_rng(0).normal(size=100)
    losses = [2.31, *(2.34 + noise)]
    (finding,) = found(carried(stream, losses, 4.0), context)
    assert (finding.severity, finding.step) == ("warning", 64 - 32 + 1)
    assert finding.evidence["weights_grown"] == pytest.approx(4.0)
    assert not found(carried(stream, losses, 1.5), context)


def test_grown_weights_are_fine_where_something_was_learnt(stream, context):
    assert not found(carried(stream, [2.31, *np.full(100, 2.2)], 10.0), context)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_without_a_length_are_not_compared(stream, context, bad):
    readings = carried(stream, [2.31, *np.full(100, 2.4)], 4.0)
    readings[64] = replace(readings[64], param_norms=np.array([bad, 1.0]))
    assert all(np.isfinite(f.evidence.get("weights_grown", 0.0)) for f in found(readings, context))


def test_a_number_that_begins_at_0_has_no_length_to_be_carried_away_from(stream, context):
    losses = [2.31, *(2.34 + 0.04 * np.random.default_rng(0).normal(size=100))]
    readings = carried(stream, losses, 60.0)
    assert found(readings, context)
    for shape in ((), (1,), (8,)):
        kinds = {f.kind for f in over(readings, context(2, shape))}
        assert "learning_rate_too_high" not in kinds, shape
