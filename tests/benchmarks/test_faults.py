"""The benchmark of faults measures what it says: a few cases through the whole harness, and its arithmetic."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import chain, pairwise

import pytest
import torch
from benchmarks.faults.case import CASES
from benchmarks.faults.classic import RIGHT, Probe
from benchmarks.faults.drive import answered, chosen, one
from benchmarks.faults.remedies import tried
from benchmarks.faults.run import BEFORE
from benchmarks.faults.score import Answer
from benchmarks.faults.split import PARTS
from benchmarks.faults.tables import details, misses, report

from steadygrad.catalog import CATALOG


def answer(name):
    return Answer(next(case for case in CASES if case.name == name), one(name))


def said(kind, severity="error", raised=0, where=()):
    return {
        "kind": kind,
        "severity": severity,
        "where": list(where),
        "summary": "",
        "raised": raised,
        "step": max(raised, 0),
        "optimizer": 0,
    }


def given(name, *findings):
    case = next(case for case in CASES if case.name == name)
    record = {
        "name": name,
        "said": list(findings),
        "losses": [],
        "check_s": 0.0,
        "step_s": 1.0,
        "told_s": 0.0,
        "classic": {},
        "fault": "",
        "refused": "",
    }
    return Answer(case, record)


def test_there_are_enough_cases_each_in_one_half_with_names_of_its_own():
    assert sum(case.faulty for case in CASES) >= 70
    assert sum(not case.faulty for case in CASES) >= 60
    assert Counter(case.family for case in CASES).keys() == Counter(chain(*PARTS.values())).keys()
    assert max(Counter(chain(*PARTS.values())).values()) == 1
    assert max(Counter(case.name for case in CASES).values()) == 1


def test_causes_are_kinds_of_the_catalog():
    kinds = {kind for case in CASES for kind in case.causes}
    kinds |= {kind for allowed in RIGHT.values() for kind in allowed}
    assert kinds <= set(CATALOG)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_batches_are_the_same_for_the_same_step(case):
    torch.manual_seed(0)
    training = case.build()
    first, again = (json.dumps(str(training.batches(3))) for _ in range(2))
    assert first == again


def test_a_fault_that_strikes_in_mid_run_is_told_at_its_step():
    infinite = answer("one_infinite_sample")
    assert infinite.ranked[0]["kind"] == "nonfinite_input"
    assert (infinite.delay, infinite.live_delay) == (0, 0)
    assert infinite.record["fault"] == ""
    assert infinite.classic_found("AUTOTRAINER")


def test_a_fault_that_the_look_before_training_shows():
    twice = answer("softmax_into_cross_entropy")
    assert twice.ranked[0]["kind"] == "double_softmax"
    assert twice.ranked[0]["raised"] == BEFORE
    assert twice.delay == 0


def test_a_healthy_run_learns_and_nothing_is_said():
    calm = answer("tanh_by_adam")
    losses = calm.record["losses"]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0] / 5
    assert not calm.found


def test_roots_come_before_what_follows_and_notes_do_not_count():
    told = given(
        "gradients_never_cleared",
        said("exploding_gradient", raised=30),
        said("missing_zero_grad", "warning", raised=3),
        said("dead_units", "info", raised=1),
    )
    assert [one["kind"] for one in told.ranked] == ["missing_zero_grad"]
    assert told.right_among(1)
    assert told.delay == 2


def test_a_word_before_the_fault_strikes_is_not_its_discovery():
    early = given("one_infinite_sample", said("nonfinite_input", raised=20))
    assert early.delay is None


@pytest.mark.parametrize(
    ("where", "right"), [(("head.weight",), True), (("header.weight",), False), ((), False)]
)
def test_a_place_is_a_module_and_what_is_inside(where, right):
    told = given("head_replaced_after_the_optimizer", said("stale_optimizer", where=where))
    assert told.place_right is right


def test_misses_and_tables_tell_wrong_answers():
    wrong = given("one_infinite_sample", said("dead_units", raised=60))
    alarm = given("tanh_by_adam", said("dead_units", raised=60))
    silent = given("relu_by_sgd")
    assert [line.split(":")[1].strip() for line in misses([wrong, alarm, silent])] == [
        "one_infinite_sample",
        "tanh_by_adam",
    ]
    assert "1 of 2" in report([wrong, alarm, silent])
    assert "dead_units (error, 60" in details([wrong])


def test_records_are_gone_on_with(tmp_path):
    records = tmp_path / "records.jsonl"
    cases = chosen(["data"], ["one_missing_target"], quick=False)
    first = list(answered(cases, 1, records))
    written = records.read_text()
    again = list(answered(cases, 1, records))
    assert records.read_text() == written
    assert [one.ranked for one in first] == [one.ranked for one in again]


def test_the_probe_sees_dead_units_and_accuracy():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    model[0].bias.data.fill_(-100.0)
    probe = Probe(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.register_step_pre_hook(probe.gradients)
    loss = torch.nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.zeros(8, dtype=torch.long))
    loss.backward()
    optimizer.step()
    look = probe.look(0, float(loss.detach()), torch.zeros(8, dtype=torch.long))
    assert look.dead == 1.0
    assert look.zeros == 1.0
    assert look.accuracy in {0.0, 1.0}
    assert all(later >= 0 for later in look.ratios)
    assert list(pairwise(look.norms)) == [(0.0, 0.0)]


def test_a_first_remedy_is_tried_on_batches_of_its_own():
    remedy, left = tried("summed_loss_at_the_rate_of_a_mean")
    assert remedy != "none"
    assert left > 0.0
