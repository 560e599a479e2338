from __future__ import annotations

import numpy as np
import pytest

from steadygrad.detect import Panel, over
from steadygrad.records import Reading


def noise(steps, size=4, seed=0):
    return np.exp(0.3 * np.random.default_rng(seed).normal(size=(steps, size)))


def clipped(norms, ceiling):
    total = np.sqrt((norms**2).sum(1, keepdims=True))
    return norms * np.minimum(1.0, ceiling / total)


@pytest.mark.parametrize(("always_on", "severity"), [(False, "warning"), (True, "info")])
def test_clipping_most_steps_is_found(stream, context, always_on, severity):
    coefs = [1.0 if step % 20 == 0 else 0.03 for step in range(200)]
    readings = stream(noise(200), clip_coef=coefs, lr=0.1)
    (finding,) = over(readings, context(4, mode="guard", policy_always_on=always_on))
    assert (finding.kind, finding.severity, finding.step) == ("clip_is_step_limiter", severity, 0)
    assert finding.evidence["share"] == pytest.approx(0.95)
    assert finding.evidence["median_clip_coef"] == pytest.approx(0.03)
    assert finding.evidence["effective_lr"] == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("coef", "bound", "severity"),
    [(0.8, None, "info"), (0.03, None, "warning"), (0.03, 7.27, "info"), (1e-4, 7.27, "warning")],
)
def test_clipping_that_leaves_the_step_its_length_is_a_note(stream, context, coef, bound, severity):
    readings = stream(noise(200), clip_coef=coef)
    (finding,) = over(readings, context(4, mode="guard", step_bound=bound))
    assert finding.severity == severity


def test_clipping_half_the_steps_is_silent(stream, context):
    coefs = [0.5 if step % 2 else 1.0 for step in range(600)]
    assert not over(stream(noise(600), clip_coef=coefs), context(4, mode="guard"))


def test_skipped_steps_do_not_count(stream, context):
    readings = stream(noise(400), clip_coef=0.1, skipped=True)
    assert not over(readings, context(4, mode="guard"))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_clip_of_the_training_loop_is_seen_and_its_constant_named(stream, context, scale):
    readings = stream(clipped(noise(50), 1.0) * scale)
    (finding,) = over(readings, context(4))
    assert finding.severity == "warning"
    assert finding.evidence["ceiling"] == pytest.approx(scale)
    assert f"{scale:.4g}" in finding.summary


def test_a_ceiling_reached_now_and_then_is_silent(stream, context):
    norms = noise(400)
    typical = float(np.median(np.sqrt((norms**2).sum(1))))
    assert not over(stream(clipped(norms, typical)), context(4))


def test_a_constant_gradient_is_no_clip(stream, context):
    assert not over(stream(np.ones((300, 4))), context(4))


def test_one_tensor_can_not_tell(stream, context):
    assert not over(stream(np.ones((300, 1))), context(1))


def test_a_tiny_tensor_that_moves_alone_is_no_clip(stream, context):
    norms = np.ones((300, 2))
    norms[:, 1] = 1e-4 * noise(300, 1)[:, 0]
    assert not over(stream(norms), context(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_totals_neither_count_nor_hide_the_ceiling(stream, context, bad):
    norms = clipped(noise(60), 1.0)
    norms[::6] = bad
    found = over(stream(norms), context(4))
    assert [f.evidence["share"] for f in found if f.kind == "clip_is_step_limiter"] == [1.0]


def test_one_ceiling_is_told_once_and_another_again(context):
    rng = np.random.default_rng(0)
    panel, found = Panel(context(3)), []
    for step in range(1500):
        norms = rng.random(3) + 0.1
        norms *= (1.0 if step < 1000 else 2.0) / np.linalg.norm(norms)
        total = float(np.linalg.norm(norms))
        found += panel.observe(Reading(step, norms.astype(np.float32), total))
    assert [(finding.kind, finding.step) for finding in found] == [
        ("clip_is_step_limiter", 0),
        ("clip_is_step_limiter", 1000),
    ]
