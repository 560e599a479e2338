"""One finding from two: that a number is non-finite, and where it was made."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from steadygrad.blame import KINDS, blamed
from steadygrad.catalog import CATALOG, GUARD_CODE
from steadygrad.origin import PHASES, InputFacts, Origin
from steadygrad.records import Finding

SEEN = Finding(
    "nonfinite_gradient", "error", 3, ("head.weight", "head.bias"), "NaN", {"tensors": 2.0}, optimizer=1
)


@pytest.mark.parametrize("phase", PHASES)
def test_the_kind_follows_the_phase_and_is_in_the_catalog(phase):
    told = blamed(SEEN, Origin(phase, "nan", "aten.relu", "head"))
    assert told.kind == KINDS[phase]
    assert told.causes == CATALOG[told.kind].causes
    assert (told.severity, told.step, told.optimizer) == ("error", 3, 1)


def test_the_operation_comes_first_and_what_was_seen_stays():
    inputs = (InputFacts((2, 3), "float32", -1.0, 4.0), InputFacts((1,), "float16", math.nan, math.nan, 1))
    origin = Origin(
        "backward", "inf", "SqrtBackward0", "", "Net", "net.py", 12, "torch.sqrt(x)", inputs, (5, 9)
    )
    told = blamed(SEEN, origin)
    assert told.where == ("the model", "head.weight", "head.bias")
    assert "SqrtBackward0" in told.summary
    assert "net.py:12: torch.sqrt(x)" in told.summary
    assert "root" in told.causes[0]
    assert told.remedies[0].code == "torch.sqrt(x.clamp_min(0) + 1e-12)"
    assert told.evidence["tensors"] == 2.0
    assert told.evidence["first batch row"] == 5.0
    assert math.isnan(told.evidence["input 1 low"])


@pytest.mark.parametrize("guarded", [False, True])
def test_attaching_a_guard_is_no_remedy_for_who_has_one(guarded):
    told = blamed(SEEN, Origin("forward", "inf", "aten.mm", "head"), guarded=guarded)
    assert (GUARD_CODE in [remedy.code for remedy in told.remedies]) is not guarded


def test_a_fault_outside_the_model_names_no_module():
    told = blamed(SEEN, Origin("loss", "nan", "aten.log", None, file="train.py", lineno=3))
    assert told.where == ("head.weight", "head.bias")
    assert "outside the model" in told.summary


def test_where_no_line_is_known_the_models_own_last_lines_may_have_run_it():
    told = blamed(SEEN, Origin("loss", "nan", "aten.div", None))
    assert told.summary == "NaN first made by aten.div in code after the model's last layer (loss)"


@pytest.mark.parametrize("phase", ["input", "loss"])
def test_tensors_are_no_place_where_the_batch_or_the_loss_has_hit_them_all(phase):
    whole = replace(SEEN, evidence={"share": 1.0})
    part = replace(SEEN, evidence={"share": 0.5})
    assert blamed(whole, Origin(phase, "nan", "aten.log", None)).where == ()
    assert blamed(part, Origin(phase, "nan", "aten.log", None)).where == SEEN.where
    assert blamed(whole, Origin("forward", "nan", "aten.log", "head")).where == ("head", *SEEN.where)
    assert blamed(whole, Origin("optimizer", "nan", "parameter", None)).where == SEEN.where


FEW, MANY = tuple(range(8)), tuple(range(9))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ((3,), ", batch row 3"),
        ((0, 2), ", batch rows 0, 2"),
        (FEW, ", batch rows 0, 1, 2, 3, 4, 5, 6, 7"),
        (MANY, ", batch rows 0, 1, 2, 3, 4, 5, 6, 7 ..."),
        ((), ""),
    ],
)
def test_rows_are_named_once_and_before_the_line_that_is_quoted(rows, told):
    batch = Origin("input", "nan", "input", None, rows=rows)
    assert blamed(SEEN, batch).summary == f"NaN was in the batch before the step began (input){told}"
    log = Origin(
        "forward", "inf", "aten.log", "head", "Head", "net.py", 12, "while (y := x.log()).any():", rows=rows
    )
    said = (
        f"Inf first made by aten.log in head (Head) (forward){told} at net.py:12: while (y := x.log()).any():"
    )
    assert blamed(SEEN, log).summary == said
    loss = Origin("loss", "nan", "loss", None, rows=rows, note="The targets hold a NaN.")
    said = f"NaN first made by the loss, in code outside the model (loss){told}. The targets hold a NaN"
    assert blamed(SEEN, loss).summary == said


def test_a_line_without_its_source_ends_with_its_number():
    origin = Origin("forward", "nan", "aten.log", None, file="net.py", lineno=12)
    assert blamed(SEEN, origin).summary.endswith("(forward) at net.py:12")
