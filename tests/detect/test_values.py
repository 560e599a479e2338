from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from steadygrad.detect import nonfinite_parameter, over

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("norm", [1.0, 0.0])
def test_a_broken_loss_with_a_finite_gradient_is_told_at_its_step_and_once(stream, context, value, norm):
    losses = [1.0] * 5 + [value] * 3 + [1.0] * 4
    (finding,) = over(stream(np.full((12, 2), norm), loss=losses), context(2))
    assert (finding.kind, finding.severity, finding.step) == ("nonfinite_loss", "error", 5)
    assert ("all gradients are 0" in finding.summary) == (norm == 0.0)


def test_a_broken_gradient_tells_the_step_alone(stream, context):
    norms = np.ones((8, 2))
    norms[4] = NAN
    losses = [1.0] * 4 + [NAN] + [1.0] * 3
    assert [f.kind for f in over(stream(norms, loss=losses), context(2))] == ["nonfinite_gradient"]


def test_a_scaler_at_work_is_no_broken_loss(stream, context):
    readings = stream(np.ones((3, 2)), loss=INF, overflow=True)
    assert not [f for f in over(readings, context(2)) if f.kind == "nonfinite_loss"]


def test_a_loss_that_is_nan_where_a_scaler_leaves_the_step_out_is_no_scales_fault(stream, context):
    norms, losses = np.ones((6, 2)), [1.0, INF, NAN, NAN, 1.0, 1.0]
    norms[1:4] = NAN
    readings = stream(norms, loss=losses, overflow=[1 <= step < 4 for step in range(6)], skipped=True)
    (finding,) = over(readings, context(2))
    assert (finding.kind, finding.severity, finding.step) == ("nonfinite_loss", "error", 2)
    assert "no scale is to blame" in finding.summary


@pytest.mark.parametrize("value", [NAN, INF])
def test_ruined_weights_are_named_where_weights_are_measured(stream, context, value):
    readings = stream(np.ones((40, 3)))
    weights = np.array([1.0, value, 2.0])
    readings[20] = replace(readings[20], param_norms=np.ones(3))
    readings[30] = replace(readings[30], param_norms=weights)
    readings[35] = replace(readings[35], param_norms=weights)
    (finding,) = over(readings, context(3))
    assert (finding.kind, finding.step, finding.where) == ("nonfinite_parameter", 30, ("layer1.weight",))
    assert finding.evidence["count"] == 1.0


def test_a_guarded_run_is_not_told_to_attach_a_guard():
    codes = [remedy.code for remedy in nonfinite_parameter(0, ["a"], 2, guarded=True).remedies]
    assert codes
    assert not any("steadygrad.guard" in code for code in codes)
