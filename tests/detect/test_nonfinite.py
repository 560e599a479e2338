from __future__ import annotations

import numpy as np
import pytest

from steadygrad.detect import over


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_tensor_nearest_to_the_output_comes_first(stream, context, bad):
    norms = np.ones((10, 6))
    norms[7, :4] = bad
    (finding,) = over(stream(norms), context(6))
    assert (finding.kind, finding.severity, finding.step) == ("nonfinite_gradient", "error", 7)
    assert finding.where == tuple(f"layer{i}.weight" for i in (3, 2, 1, 0))
    assert "layer3.weight" in finding.summary
    assert finding.evidence["count"] == 4
    assert finding.evidence["nan" if np.isnan(bad) else "inf"] == 4


def test_where_all_are_affected_the_forward_is_suspect(stream, context):
    norms = np.ones((5, 3))
    norms[4] = np.nan
    (finding,) = over(stream(norms), context(3))
    assert "the loss or the forward pass is suspect" in finding.summary
    assert finding.evidence["share"] == 1.0


def test_tensors_without_gradient_do_not_hide_that_all_are_affected(stream, context):
    norms = np.array([[np.nan, np.nan, 0.0]])
    (finding,) = over(stream(norms, absent=np.array([False, False, True])), context(3))
    assert "all 2 tensors" in finding.summary


def test_an_explosion_that_ends_in_overflow_is_told_from_a_sudden_fault(stream, context):
    growing = 10.0 ** np.arange(6)[:, None] * np.ones((6, 2))
    sudden = np.ones((6, 2))
    for norms in (growing, sudden):
        norms[5] = np.inf
    exploded = next(f for f in over(stream(growing), context(2)) if f.kind == "nonfinite_gradient")
    (fault,) = over(stream(sudden), context(2))
    assert exploded.evidence["growth_per_step"] == pytest.approx(10.0)
    assert "grown 1e+04-fold" in exploded.summary
    assert fault.evidence["growth_per_step"] == pytest.approx(1.0)
    assert "no growth came before" in fault.summary


def test_a_skipped_step_says_so(stream, context):
    (finding,) = over(stream([[np.nan, 1.0]], skipped=True), context(2))
    assert "skipped" in finding.summary


def test_a_scaler_looking_for_its_scale_is_no_fault(stream, context):
    norms = np.ones((15, 2))
    norms[:8] = np.inf
    assert not over(stream(norms, overflow=[step < 8 for step in range(15)], skipped=True), context(2))


def test_a_streak_is_reported_once(stream, context):
    norms = np.full((30, 2), np.nan)
    assert len(over(stream(norms), context(2))) == 1


def test_a_total_that_overflows_over_finite_norms_is_not_blamed(stream, context):
    norms = np.full((3, 2), 1e300)
    assert "nonfinite_gradient" not in {f.kind for f in over(stream(norms), context(2))}


def test_sixteen_overflows_in_a_row_are_a_streak(stream, context):
    norms = np.ones((16, 3))
    norms[:, 1] = np.inf
    readings = stream(norms, overflow=True, skipped=True)
    assert not over(readings[:15], context(3))
    (finding,) = over(readings, context(3))
    assert (finding.kind, finding.severity, finding.step) == ("overflow_streak", "warning", 0)
    assert finding.where == ("layer1.weight",)
    assert finding.evidence["steps"] == 16


def test_a_finite_step_ends_the_streak(stream, context):
    norms = np.full((60, 1), np.inf)
    norms[::15] = 1.0
    assert not over(stream(norms, overflow=[step % 15 != 0 for step in range(60)]), context(1))


@pytest.mark.parametrize(("finite", "said"), [(0, False), (1, True), (4, True), (5, False)])
def test_a_first_update_may_have_been_too_large(stream, context, finite, said):
    norms = np.ones((finite + 1, 2))
    norms[finite] = np.nan
    (finding,) = over(stream(norms), context(2))
    assert ("or the first update was too large" in finding.summary) == said


@pytest.mark.parametrize("mode", ["watch", "guard"])
def test_a_guarded_run_is_not_told_to_attach_a_guard(stream, context, mode):
    norms = np.ones((40, 2))
    norms[20:25] = 1e9
    norms[30] = np.nan
    found = over(stream(norms), context(2, mode=mode))
    assert {finding.kind for finding in found} == {"exploding_gradient", "nonfinite_gradient"}
    for finding in found:
        codes = [remedy.code for remedy in finding.remedies]
        assert ("guard = steadygrad.guard(model, optimizer)" in codes) == (mode == "watch")
        assert len(codes) >= 3
