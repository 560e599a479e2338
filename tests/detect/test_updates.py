from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.detect import Context, over
from steadygrad.records import TensorInfo

PROBED = (0, 1, 2, 4, 8, 16, 32, 64, 128)


def run(stream, ratios, *, lengths=(5.0, 5.0), norm=1.0, lr=0.1, steps=200):
    """Readings whose probed steps have updates of ``ratios`` (one number or a function of the step)."""
    readings = stream(np.full((steps, len(lengths)), norm), lr=lr)
    ratio_at = ratios if callable(ratios) else lambda step: ratios
    for step in PROBED:
        if step < steps:
            weights = np.array(lengths)
            moved = weights * ratio_at(step)
            readings[step] = replace(readings[step], param_norms=weights, update_norms=moved)
    return readings


def found(readings, context, kind):
    return [f for f in over(readings, context) if f.kind == kind]


def test_a_first_step_as_long_as_the_weights_is_told_at_once(stream, context):
    adam = context(2, step_bound=7.27)
    (finding,) = found(run(stream, lambda t: 0.8 if t == 0 else 0.01), adam, "oversized_update")
    assert (finding.severity, finding.step) == ("warning", 0)
    assert finding.evidence["update_ratio"] == pytest.approx(0.8)
    assert finding.evidence["lr"] == pytest.approx(0.1)


def test_matrices_that_begin_next_to_zero_have_no_length_yet(stream):
    """GloVe: Adagrad's first step of 0.05 meets word vectors that begin uniform within 0.5 / dimensions."""
    words, dims = 800, 32
    context = Context(tuple(TensorInfo(name, (words, dims)) for name in ("wi.weight", "wj.weight")))
    begun = 0.5 / dims / np.sqrt(3.0) * np.sqrt(words * dims)
    step = 0.05 * np.sqrt(words * dims)
    ratios = run(stream, lambda t: step / begun if t == 0 else 0.0, lengths=(begun, begun), lr=0.05)
    assert not found(ratios, context, "oversized_update")


def test_a_steep_start_makes_one_long_step_of_sgd_and_that_is_a_note(stream, context):
    (finding,) = found(run(stream, lambda t: 0.96 if t == 0 else 0.4), context(2), "oversized_update")
    assert (finding.severity, finding.step) == ("info", 0)
    lasting = found(run(stream, 0.96), context(2), "oversized_update")
    assert [(f.severity, f.step) for f in lasting] == [("info", 0), ("warning", 0)]


def test_a_later_one_is_a_note_and_three_in_a_row_a_warning(stream, context):
    catapult = found(run(stream, lambda t: 2.0 if t == 8 else 0.01), context(2), "oversized_update")
    assert [f.severity for f in catapult] == ["info"]
    lasting = found(run(stream, lambda t: 2.0 if t >= 8 else 0.01), context(2), "oversized_update")
    assert [(f.severity, f.step) for f in lasting] == [("info", 8), ("warning", 8)]


def test_a_long_first_step_by_hand_is_a_note_and_tells_no_rate(stream, context):
    (finding,) = found(
        run(stream, lambda t: 8.0 if t == 0 else 0.01, lr=0.0), context(2, by_hand=True), "oversized_update"
    )
    assert finding.severity == "info"
    assert "rate" not in finding.summary


def test_a_whole_descent_may_be_long_but_not_a_hundred_lengths(stream, context):
    descends = context(2, descends=True)
    assert not found(run(stream, 30.0), descends, "oversized_update")
    assert not found(run(stream, 0.0), descends, "stalled_update")
    (finding,) = found(run(stream, lambda t: 1e5 if t == 4 else 1.0), descends, "oversized_update")
    assert (finding.severity, finding.step) == ("warning", 4)
    assert "strong_wolfe" in finding.remedies[0].code


@given(st.floats(1e-5, 0.4), st.integers(1, 6))
def test_steps_of_healthy_runs_are_silent(ratio, tensors):
    from tests.detect.conftest import _context, _stream  # hypothesis and fixtures don't mix

    readings = run(_stream, ratio, lengths=(3.0,) * tensors)
    assert not over(readings, _context(tensors))


def test_vectors_zeros_and_a_single_matrix_say_nothing(stream):
    tensors = (TensorInfo("bias", (8,)), TensorInfo("zero", (8, 8)), TensorInfo("only", (8, 8)))
    readings = run(stream, 5.0, lengths=(1.0, 0.0, 1.0))
    assert not over(readings, Context(tensors))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ruined_weights_are_no_oversized_step(stream, context, bad):
    readings = run(stream, 0.01, lengths=(bad, 1.0))
    assert {f.kind for f in over(readings, context(2))} == {"nonfinite_parameter"}


def test_weights_that_stay_while_gradients_arrive_are_stalled(stream, context):
    (finding,) = found(run(stream, 0.0), context(2), "stalled_update")
    assert (finding.severity, finding.step, len(finding.where)) == ("warning", 0, 2)
    assert finding.evidence["steps"] == 6  # steps 0, 1, 2, 4, 8, 16: the first that span 12


def test_a_rate_of_zero_is_named(stream, context):
    (finding,) = found(run(stream, 0.0, lr=0.0), context(2), "stalled_update")
    assert "learning rate is 0" in finding.summary


@pytest.mark.parametrize(
    "case",
    [
        {"ratios": 1e-5},  # slow fine-tuning
        {"ratios": 0.0, "norm": 0.0},  # nothing arrives: another finding's business
        {"ratios": lambda t: 0.0 if t < 4 else 1e-3},  # a warm-up that begins at 0
    ],
)
def test_healthy_small_steps_are_no_stall(stream, context, case):
    assert not found(run(stream, **case), context(2), "stalled_update")


def test_a_schedule_that_runs_out_is_told_without_a_measured_step(stream, context):
    rates = [0.1] * 20 + [0.0] * 40
    (finding,) = over(stream(np.ones((60, 2)), lr=rates), context(2))
    assert (finding.kind, finding.step) == ("stalled_update", 20)
    assert not over(stream(np.ones((60, 2)), lr=0.0), context(2))
    assert not over(stream(np.ones((60, 2)), lr=([0.1] * 9 + [0.0]) * 6), context(2))


def test_a_converged_run_is_not_stalled(stream, context):
    readings = run(stream, lambda t: 1e-2 if t < 16 else 1e-9)
    calm = [replace(r, norms=r.norms * 1e-6, total_norm=r.total_norm * 1e-6) for r in readings[16:]]
    assert not found([*readings[:16], *calm], context(2), "stalled_update")
    assert not found(readings[:16], context(2), "stalled_update")


def test_a_run_that_stops_moving_at_full_gradient_is_stalled(stream, context):
    (finding,) = found(run(stream, lambda t: 1e-2 if t < 16 else 0.0), context(2), "stalled_update")
    assert finding.step == 16


def test_a_frozen_backbone_leaves_its_head(stream):
    tensors = (TensorInfo("backbone", (1000, 10)), TensorInfo("head", (100, 10)))
    readings = run(stream, 0.0)
    moving = [
        replace(r, update_norms=np.array([0.0, 0.01])) if r.update_norms is not None else r for r in readings
    ]
    assert not over(moving, Context(tensors))
