from __future__ import annotations

import ast

import pytest

from steadygrad.catalog import CATALOG, entry
from steadygrad.errors import UsageError

KINDS = {
    "clip_is_step_limiter",
    "constant_input",
    "constant_prediction",
    "constant_targets",
    "dead_units",
    "disconnected_loss",
    "disconnected_parameters",
    "divergence",
    "double_softmax",
    "exploding_gradient",
    "exploding_in_time",
    "learning_rate_too_high",
    "loss_spike",
    "missing_zero_grad",
    "nonfinite_activation",
    "nonfinite_gradient",
    "nonfinite_input",
    "nonfinite_loss",
    "nonfinite_parameter",
    "optimizer_state_corrupt",
    "output_range_mismatch",
    "overflow_streak",
    "oversized_update",
    "saturated_units",
    "sharp_softmax",
    "single_class_softmax",
    "stale_optimizer",
    "stalled_update",
    "unnormalised_input",
    "unscaled_targets",
    "vanishing_gradient",
    "vanishing_in_time",
}


def test_the_catalog_knows_every_kind():
    assert set(CATALOG) == KINDS


@pytest.mark.parametrize("kind", sorted(CATALOG))
def test_an_entry_is_whole(kind):
    item = entry(kind)
    assert item.kind == kind
    assert item.title
    assert not item.title.endswith(".")
    assert item.meaning.endswith(".")
    assert len(item.causes) >= 2
    assert len(item.remedies) >= 2
    assert len(set(item.causes)) == len(item.causes)
    assert any(remedy.code for remedy in item.remedies)
    assert item.verify.endswith(".")
    assert "https://" in item.reference or "arXiv:" in item.reference


@pytest.mark.parametrize("kind", sorted(CATALOG))
def test_code_of_remedies_can_be_pasted(kind):
    for remedy in entry(kind).remedies:
        ast.parse(remedy.code)


def test_the_catalog_can_not_be_changed():
    with pytest.raises(TypeError):
        CATALOG["new"] = entry("exploding_gradient")


@pytest.mark.parametrize("kind", ["explodin_gradient", "", "zzz"])
def test_an_unknown_kind_is_answered_with_known_ones(kind):
    with pytest.raises(UsageError, match=r"exploding_gradient"):
        entry(kind)


@pytest.mark.parametrize(
    "kind", ["nonfinite_gradient", "overflow_streak", "nonfinite_activation", "nonfinite_loss"]
)
def test_where_a_number_is_not_finite_the_trace_is_offered(kind):
    codes = [remedy.code for remedy in entry(kind).remedies]
    assert any("steadygrad.trace(" in code for code in codes)
    assert not any("detect_anomaly" in code for code in codes)
