from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.catalog import CATALOG
from steadygrad.records import SEVERITIES, Finding
from steadygrad.report.chapters import LEADS_TO, WINDOW_STEPS, chapters


def finding(kind, step=0, where=("a",), severity="warning", optimizer=0):
    return Finding(kind, severity, step, tuple(where), f"{kind} at {step}", optimizer=optimizer)


FINDINGS = st.builds(
    finding,
    st.sampled_from([*LEADS_TO, "of_a_newer_version"]),
    st.integers(0, 300),
    st.lists(st.sampled_from("abc"), max_size=2),
    st.sampled_from(SEVERITIES),
    st.integers(0, 1),
)


def test_consequences_stand_under_their_cause():
    explosion = finding("exploding_gradient", 400)
    nonfinite = finding("nonfinite_gradient", 412, where=("b",), severity="error")
    parameter = finding("nonfinite_parameter", 413, where=("c",))
    (chapter,) = chapters([parameter, nonfinite, explosion])
    assert chapter.root is explosion
    assert chapter.consequences == [nonfinite, parameter]
    assert chapter.severity == "error"


def test_a_cause_is_told_before_its_effect_in_the_same_step():
    effect, cause = finding("disconnected_loss"), finding("stale_optimizer")
    (chapter,) = chapters([effect, cause])
    assert chapter.root is cause


@pytest.mark.parametrize(("gap", "count"), [(WINDOW_STEPS, 1), (WINDOW_STEPS + 1, 2)])
def test_what_comes_long_after_is_a_story_of_its_own(gap, count):
    assert len(chapters([finding("exploding_gradient"), finding("nonfinite_gradient", gap)])) == count


def test_other_optimizers_have_their_own_causes():
    told = chapters([finding("exploding_gradient"), finding("nonfinite_gradient", 1, optimizer=1)])
    assert len(told) == 2


def test_the_same_again_at_the_same_place_is_a_repeat():
    first, second = finding("exploding_gradient", 0), finding("exploding_gradient", 900, where=("b", "a"))
    elsewhere = finding("exploding_gradient", 950, where=("c",))
    told = chapters([first, second, elsewhere])
    assert [chapter.root for chapter in told] == [first, elsewhere]
    assert told[0].repeats == [second]


def test_a_finding_that_was_raised_is_told_in_its_last_form():
    forms = [finding("exploding_gradient", 7, severity=severity) for severity in SEVERITIES]
    (chapter,) = chapters(forms)
    assert chapter.findings == (forms[-1],)


@given(st.lists(FINDINGS, max_size=20, unique_by=lambda f: (f.kind, f.step, f.optimizer)))
def test_every_finding_is_told_exactly_once_and_roots_come_in_order(findings):
    told = chapters(findings)
    assert sorted(map(id, findings)) == sorted(id(f) for chapter in told for f in chapter.findings)
    roots = [chapter.root.step for chapter in told]
    assert roots == sorted(roots)
    assert all(f.step >= chapter.root.step for chapter in told for f in chapter.findings)


@given(st.lists(FINDINGS, max_size=12), st.randoms())
def test_the_order_of_recording_doesnt_change_how_many_stories_there_are(findings, random):
    distinct = list({(f.kind, f.step): f for f in findings}.values())
    shuffled = random.sample(distinct, len(distinct))
    assert [c.root for c in chapters(distinct)] == [c.root for c in chapters(shuffled)]


def test_every_known_kind_that_is_named_here_is_in_the_catalog_or_still_to_come():
    assert {"exploding_gradient", "disconnected_loss", "nonfinite_gradient"} <= set(LEADS_TO) & set(CATALOG)


@pytest.mark.parametrize(("kind", "together"), [("missing_zero_grad", True), ("oversized_update", False)])
def test_what_is_wrong_at_every_step_may_show_its_effect_late(kind, together):
    late = finding("exploding_gradient", WINDOW_STEPS + 50)
    assert (len(chapters([finding(kind, 3), late])) == 1) is together


def test_what_is_told_twice_at_one_step_did_not_come_back():
    one = Finding("nonfinite_parameter", "error", 120, ("0", "0.weight", "0.bias"), "NaN was in the weights")
    (chapter,) = chapters([one, replace(one, where=("0", "0.weight"))])
    assert chapter.findings == (one,)
    (chapter,) = chapters([one, replace(one, step=121)])
    assert len(chapter.repeats) == 1
