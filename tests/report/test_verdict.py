from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.catalog import CATALOG
from steadygrad.records import SEVERITIES, Finding, Incident, TensorInfo
from steadygrad.report.chapters import chapters
from steadygrad.report.facts import Facts, gather
from steadygrad.report.verdict import title, told_loss, verdict
from steadygrad.runfile import open_run

CALM = {
    "steps": 1200,
    "seconds": 34.0,
    "clipped": 0,
    "skipped": 0,
    "overflowed": 0,
    "at_least": False,
    "nonfinite": 0,
    "first_nonfinite": None,
    "nonfinite_at_end": 0,
    "first_loss": math.nan,
    "last_loss": math.nan,
}
EXPLOSION = Finding("exploding_gradient", "warning", 380, ("rnn.weight", "rnn.bias"), "grows 1.9x a step")
NONFINITE = Finding("nonfinite_gradient", "error", 412, ("head.weight",), "NaN in 3 of 8 gradients")
LIMITER = Finding("clip_is_step_limiter", "info", 300, (), "acts at 97 % of the steps")


def told(findings=(), incidents=(), **changes):
    return verdict(Facts(**{**CALM, **changes}), chapters(findings), incidents)


def test_a_healthy_run():
    assert told().sentence == "Healthy: 1,200 steps, nothing to report."
    assert told().state == "healthy"


def test_a_healthy_run_under_the_guard_says_what_the_guard_did():
    sentence = told(clipped=31, overflowed=2).sentence
    assert sentence == (
        "Healthy: 1,200 steps, nothing to report; 31 steps scaled down; 2 steps left out by the loss scaler."
    )


def test_a_run_that_the_guard_had_to_hold_was_not_healthy():
    engaged = [Incident(12, "engage", "grows"), Incident(90, "engage", "again")]
    run = told(incidents=engaged, clipped=9)
    assert run.state == "held"
    assert run.sentence == (
        "Unstable from step 12, held by the guard (9 steps scaled down): 1,200 steps, nothing else to report."
    )
    assert told([EXPLOSION], engaged).state == "warning"


def test_notes_dont_make_a_run_ill():
    assert told([LIMITER]).sentence == "Healthy: 1,200 steps, 1 note below."


def test_an_error_is_named_with_step_and_place():
    run = told([NONFINITE], skipped=3, first_nonfinite=412)
    assert run.state == "error"
    assert run.sentence == (
        "NaN or Inf in the gradient (step 412, head.weight), 3 steps skipped, the run went on."
    )


def test_the_root_cause_is_told_with_the_worst_that_came_of_it():
    run = told([EXPLOSION, NONFINITE])
    assert run.state == "error"
    assert run.sentence == (
        "Exploding gradient (step 380, rnn.weight and 1 more); first non-finite in head.weight (step 412)."
    )


def test_an_error_that_leads_to_another_is_told_with_it():
    severe = replace(EXPLOSION, severity="error")
    assert "; first non-finite in head.weight (step 412)" in told([severe, NONFINITE]).sentence


def test_a_run_that_ended_with_its_first_nonfinite_step_says_so():
    assert told([NONFINITE], nonfinite_at_end=1).sentence.endswith("; the run ended there.")


def test_an_error_outweighs_an_earlier_warning():
    late = Finding("disconnected_loss", "error", 900, (), "nothing arrives")
    run = told([EXPLOSION, late])
    assert run.sentence.startswith("Loss not connected to the parameters (step 900)")


def test_more_of_the_same_severity_is_counted():
    other = Finding("stale_optimizer", "warning", 1, (), "holds other tensors")
    assert told([other, EXPLOSION]).sentence.endswith("; 1 more warning below.")


def test_a_run_that_stays_nonfinite_says_so():
    sentence = told([NONFINITE], nonfinite_at_end=788, first_nonfinite=412).sentence
    assert sentence.endswith("; the last 788 steps are all non-finite.")


def test_a_stop_is_told():
    stop = Incident(421, "stop", "10 steps in a row were non-finite")
    sentence = told([NONFINITE], [stop], skipped=10, nonfinite_at_end=10).sentence
    assert sentence.endswith("10 steps skipped; the guard stopped the run at step 421.")


def test_nonfinite_steps_without_a_finding_are_no_health():
    run = told(first_nonfinite=7, nonfinite_at_end=1)
    assert run.state == "error"
    assert run.sentence == "Non-finite gradient (step 7); the run ended there."


def test_a_count_that_is_a_lower_bound_says_so():
    assert "at least 31 steps scaled down" in told(clipped=31, at_least=True).sentence


def test_no_steps():
    assert told(steps=0).sentence == "Empty: no step was recorded."


@pytest.mark.parametrize("kind", CATALOG)
def test_known_kinds_have_the_title_of_the_catalog(kind):
    assert title(kind) == CATALOG[kind].title


def test_a_kind_of_a_newer_version_is_still_readable():
    assert title("cosmic_ray") == "Cosmic ray"


@given(
    st.lists(
        st.builds(
            Finding,
            st.sampled_from([*CATALOG, "cosmic_ray"]),
            st.sampled_from(SEVERITIES),
            st.integers(0, 500),
            st.lists(st.text(), max_size=3).map(tuple),
            st.text(),
        ),
        max_size=6,
    ),
    st.integers(0, 5),
)
def test_the_verdict_is_one_printable_line_as_bad_as_the_worst_finding(findings, skipped):
    run = told(findings, skipped=skipped)
    assert run.sentence.isprintable()
    assert run.sentence.endswith(".")
    worst = {finding.severity for finding in findings}
    expected = "error" if "error" in worst else "warning" if "warning" in worst else "healthy"
    assert run.state == expected


def grown(record, factors, kind="exploding_gradient", step=30, **changes):
    norms = np.ones((60, 12))
    norms[step:] = np.asarray(factors, np.float64)
    names = tuple(TensorInfo(f"blocks.{i}.weight", (3, 3), **changes) for i in range(12))
    found = [Finding(kind, "error", step, ("blocks.3.weight",), ""), replace(NONFINITE, step=step + 9)]
    return open_run(record(norms, (), found, tensors=names))


def sentence_of(run):
    return verdict(gather(run), chapters(run.findings), run.incidents, run).sentence


def test_growth_per_layer_and_the_stretch_that_carries_it(record):
    factors = np.where(np.arange(12) < 3, 2.0**6, 2.0 ** np.clip(9 - np.arange(12.0), 0, 6))
    with grown(record, factors) as run:
        assert sentence_of(run).startswith(
            "Exploding gradient at step 30: the gradient grows x2 per layer from blocks.9 back to blocks.3; "
            "first non-finite in head.weight (step 39)"
        )


def test_a_vanishing_gradient_shrinks(record):
    with grown(record, 0.1 ** np.arange(11, -1, -1.0), "vanishing_gradient") as run:
        assert "the gradient shrinks x0.1 per layer from blocks.11 back to blocks.0" in sentence_of(run)


@pytest.mark.parametrize(
    "factors", [0.1 ** np.arange(11, -1, -1.0), np.full(12, 1e6), np.full(12, np.nan), np.zeros(12)]
)
def test_norms_that_dont_say_so_are_not_made_to(record, factors):
    with grown(record, factors) as run:
        assert "Exploding gradient (step 30, blocks.3.weight)" in sentence_of(run)


def test_a_step_that_is_not_finite_is_told_by_the_one_before(record):
    norms = np.ones((60, 12))
    norms[29] = 3.0 ** np.arange(11, -1, -1.0)
    norms[30:] = np.inf
    found = [Finding("exploding_gradient", "error", 30, (), "")]
    with open_run(record(norms, (), found, name="second")) as run:
        assert "grows x3 per layer from layers.11 back to layers.0" in sentence_of(run)


def test_another_optimizers_weights_are_left_out(record):
    with grown(record, 2.0 ** np.arange(11, -1, -1.0), optimizer=1) as run:
        assert "per layer" not in sentence_of(run)


def test_of_a_long_name_the_end_is_told():
    name = "transformer." + "block." * 30 + "weight"
    sentence = told([replace(EXPLOSION, where=(name,))]).sentence
    assert "block.weight)" in sentence
    assert len(sentence) < 120


def test_a_module_called_by_a_number_is_said_to_be_a_layer():
    lost = Finding("nonfinite_activation", "error", 390, ("20", "20.weight"), "Inf first made in 20")
    assert told([EXPLOSION, lost]).sentence.endswith("; first non-finite in layer 20 (step 390).")


@pytest.mark.parametrize(
    ("evidence", "place"),
    [
        ({"batch rows": 1.0, "first batch row": 3.0}, "step 9, row 3"),
        ({"batch rows": 4.0, "first batch row": 0.0}, "step 9, row 0 and 3 more"),
        ({"batch rows": math.nan, "first batch row": math.inf}, "step 9"),
        ({}, "step 9"),
    ],
)
def test_of_a_broken_batch_the_rows_are_told_and_not_the_gradients(evidence, place):
    broken = Finding("nonfinite_input", "error", 9, ("8.bias", "8.weight"), "NaN in the batch", evidence)
    assert told([broken]).sentence == f"{title('nonfinite_input')} ({place})."


def test_rollbacks_are_counted():
    back = [
        Incident(412, "rollback", "NaN"),
        Incident(412, "rollback", "NaN"),
        Incident(500, "rollback", "again"),
    ]
    assert told([NONFINITE], back, skipped=1).sentence == (
        "NaN or Inf in the gradient (step 412, head.weight), 1 step skipped, 2 rollbacks, the run went on."
    )


def test_steps_of_several_optimizers_are_said_to_be_theirs():
    assert told(optimizers=2).sentence == "Healthy: 1,200 steps of 2 optimizers, nothing to report."


@pytest.mark.parametrize(
    ("losses", "text"),
    [
        ([2.0, 1.0, 0.5], "2 -> 0.5"),
        ([2.0, 1.0, math.nan], "2 -> not finite"),
        ([math.inf, 2.0, None], "2 -> 2, 1 not finite"),
        ([1.0, math.nan, math.inf, 0.5, math.nan, -math.inf, 0.25], "1 -> 0.25, 4 not finite"),
        ([1.0, math.nan, 0.5, math.inf], "1 -> not finite, as 2 in all"),
        ([math.nan] * 3, "never finite"),
    ],
)
def test_a_loss_that_was_broken_is_not_told_as_if_all_had_been_well(record, losses, text):
    changes = {step: {"loss": loss} for step, loss in enumerate(losses)}
    with open_run(record(np.ones((len(losses), 2)), changes)) as run:
        assert told_loss(gather(run), "->") == text


def test_a_run_that_ended_without_a_step_says_what_to_look_for(record):
    with open_run(record(np.zeros((0, 3)))) as run:
        assert sentence_of(run).startswith("Empty: no step was recorded. Was it the optimizer")
    assert told(steps=0).sentence == "Empty: no step was recorded."
