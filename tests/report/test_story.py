from __future__ import annotations

import math
from io import StringIO
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rich.console import Console

from steadygrad import open_run
from steadygrad.catalog import entry
from steadygrad.records import Finding, Incident, Remedy, TensorInfo
from steadygrad.report import Story
from steadygrad.report.story import MOST_CHAPTERS, MOST_INCIDENTS


def finding(kind="nonfinite_gradient", step=5, severity="error", where=("layers.1.weight",), **changes):
    known = entry(kind)
    fields = {
        "summary": f"{kind} here",
        "evidence": MappingProxyType({"count": 3.0, "before": math.nan}),
        "causes": known.causes,
        "remedies": known.remedies,
        "reference": known.reference,
        **changes,
    }
    return Finding(kind, severity, step, tuple(where), **fields)


@pytest.fixture
def tell(record):
    def story(norms, *arguments, **named):
        with open_run(record(norms, *arguments, **named)) as run:
            return Story(run)

    return story


def section(text, heading):
    """Lines between one heading and the next empty line before an unindented line."""
    after = text.partition(f"\n{heading}")[2].splitlines()[1:]
    until = next((i for i, line in enumerate(after) if line and not line.startswith(" ")), len(after))
    return after[:until]


def words(text):
    return " ".join(text.split())


def test_the_verdict_comes_first(tell):
    lines = str(tell([[1.0, 2.0]] * 12)).splitlines()
    assert lines[0] == "first  guard, policy auto(), Net, SGD, 2023-11-14 22:13 UTC"
    assert lines[2] == "Healthy: 12 steps, nothing to report."


def test_what_was_measured(tell):
    changes = {3: {"skipped": True}, 4: {"clip_coef": 0.5, "loss": 7.25}, 9: {"loss": 0.5}}
    text = "\n".join(section(str(tell([[1.0, 2.0]] * 12, changes)), "Measured"))
    assert "12 optimizer steps in 0.11 s" in text
    assert "2 tensors, 12 parameters" in text
    assert "1 scaled down (8 %), 1 skipped (8 %)" in text
    assert "7.25 -> 0.5" in text


def test_a_finding_is_told_whole(tell):
    told = finding()
    text = str(tell([[1.0, 2.0]] * 12, findings=[told]))
    flat = words(text)
    assert "1. error NaN or Inf in the gradient (nonfinite_gradient), step 5" in flat
    assert "numbers count 3, before nan" in flat
    for place, cause in enumerate(told.causes, 1):
        assert words(f"{place}. {cause}") in flat
    for remedy in told.remedies:
        assert words(remedy.action) in flat
        assert all(line in text for line in remedy.code.splitlines())
    assert told.reference.split()[0] in text


def test_findings_come_in_the_order_of_their_steps(tell):
    late, early = finding(step=9), finding("stale_optimizer", step=2, severity="warning")
    text = str(tell([[1.0]] * 12, findings=[late, early]))
    assert text.index("1. warning  Optimizer holds") < text.index("2. error  NaN or Inf")


def test_one_root_cause_is_told_once(tell):
    told = [
        finding("exploding_gradient", 3, "warning"),
        finding(step=5),
        finding("exploding_gradient", 700, "warning"),
    ]
    text = str(tell([[1.0]] * 12, findings=told))
    assert text.count("Exploding gradient (exploding_gradient)") == 1
    assert "2. " not in "".join(line for line in section(text, "Findings") if line.startswith("  2."))
    assert "again     1 time, at step 700" in text
    assert "then      step 5, nonfinite_gradient: nonfinite_gradient here" in text
    assert words(entry("nonfinite_gradient").causes[0]) not in words(text)


def test_the_same_advice_isnt_given_twice(tell):
    told = [finding(step=1, where=["a"]), finding(step=500, where=["b"])]
    text = str(tell([[1.0]] * 12, findings=told))
    assert words(text).count(words(entry("nonfinite_gradient").causes[0])) == 1
    assert "as in 1." in text


def test_a_flood_of_findings_is_cut_and_counted(tell):
    told = [finding(step=i, where=[f"layer{i}"]) for i in range(MOST_CHAPTERS + 5)]
    assert "and       5 nonfinite_gradient" in str(tell([[1.0]] * 30, findings=told))


def test_incidents_are_counted_and_the_first_few_told(tell):
    skips = [Incident(step, "skip", "NaN in head", ("head",)) for step in range(9)]
    lines = section(str(tell([[1.0]] * 12, incidents=skips)), "What steadygrad did")
    assert lines[0].strip() == "9 skip"
    assert lines[1].split() == ["step", "0", "skip:", "NaN", "in", "head", "(head)"]
    assert f"and {9 - MOST_INCIDENTS} more" in lines[-2]


def test_tensors_with_the_largest_and_the_smallest_norms_are_named(tell):
    norms = np.tile(10.0 ** np.arange(10), (12, 1))
    norms[3] = math.nan
    lines = section(str(tell(norms)), "Median gradient norm")
    largest = [line.split() for line in lines if line.strip()]
    assert [row[-2] for row in largest] == [f"layers.{i}.weight" for i in (9, 8, 7, 2, 1, 0)]
    assert (largest[0][0], largest[3][0]) == ("largest", "smallest")
    assert float(largest[0][1]) == pytest.approx(1e9, rel=0.01)


def test_tensors_without_any_gradient_are_counted(tell):
    norms = [[1.0, 0.0, math.nan]] * 12
    lines = section(str(tell(norms)), "Median gradient norm")
    assert "2 tensors never above zero: layers.1.weight, layers.2.weight" in lines[1]


def test_medians_leave_out_steps_without_a_gradient(tell):
    absent = {step: {"absent": np.array([False, True])} for step in range(8)}
    norms = [[1.0, 0.0 if step < 8 else 5.0] for step in range(12)]
    assert "layers.1.weight  2x3" in next(
        line for line in str(tell(norms, absent)).splitlines() if " 5  " in line
    )


def test_the_course_marks_what_happened(tell):
    changes = {5: {"skipped": True}, 8: {"clip_coef": 0.1}}
    norms = [[1.0]] * 5 + [[math.nan]] + [[2.0]] * 6
    lines = section(str(tell(norms, changes)), "Total gradient norm by step")
    assert lines[4].strip() == "!  c"
    assert "! non-finite, s skipped, c scaled down" in lines[6]


def test_every_optimizer_has_its_own_course(tell):
    changes = {step: {"optimizer": step % 2} for step in range(12)}
    text = str(tell([[1.0]] * 12, changes, optimizers=("SGD", "Adam")))
    assert "log scale, optimizer 0" in text
    assert "log scale, optimizer 1" in text


def test_next_command_can_be_pasted(tell, tmp_path):
    text = str(tell([[1.0]] * 3, name="it's a run", path=tmp_path / "it's a run.steady"))
    assert f"steadygrad export '{tmp_path}/it'\"'\"'s a run.steady' --to csv" in text


def test_a_watched_run_with_findings_is_offered_the_guard(tell):
    assert "steadygrad.guard(model" in "\n".join(
        section(str(tell([[1.0]], findings=[finding()], mode="watch")), "Next")
    )
    assert "steadygrad.guard(model" not in "\n".join(section(str(tell([[1.0]], name="other")), "Next"))


@pytest.mark.parametrize("width", [20, 60, 200])
def test_code_and_names_are_never_broken(tell, width):
    code = "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)  # a long line"
    name = "encoder.layers.11.self_attention.output_projection.weight"
    told = tell([[1.0]], findings=[finding(where=[name], remedies=(Remedy("Do this", code),))])
    file = StringIO()
    Console(file=file, width=width, color_system=None).print(told, crop=False)
    assert code in file.getvalue()
    assert name in file.getvalue()


HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "</script><img src=x>",
    "[bold red]markup[/]",
    "a\nb\r\tc",
    "\u202eevil",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_shown_and_not_obeyed(tell, name, tmp_path):
    told = finding(where=[name], summary=name, causes=(name,), remedies=(Remedy(name, name),), reference=name)
    story = tell(
        [[1.0]],
        findings=[told],
        incidents=[Incident(0, "skip", name, (name,))],
        name=name,
        policy=name,
        model=name,
        optimizers=(name,),
        tensors=(TensorInfo(name),),
        path=tmp_path / "run.steady",
    )
    text = str(story)
    assert all(line.isprintable() for line in text.split("\n"))
    if name.isprintable():
        assert name in text


def test_a_run_without_steps(tell):
    text = str(tell(np.empty((0, 2))))
    assert "Empty: no step was recorded." in text


def test_a_run_of_nothing_but_nan(tell):
    text = str(tell([[math.nan, math.inf]] * 20))
    assert "Non-finite gradient (step 0); the last 20 steps are all non-finite." in text
    assert "never finite" in text


def test_ten_thousand_tensors(tell):
    tensors = tuple(TensorInfo(f"t{i}", (1,)) for i in range(10_000))
    assert "10,000 tensors" in str(tell(np.ones((3, 10_000)), tensors=tensors))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 30), st.integers(1, 5)),
        elements=st.floats(0, width=32) | st.sampled_from([math.nan, math.inf]),
    )
)
def test_any_run_has_a_story(record, tmp_path_factory, norms):
    with open_run(record(norms, path=tmp_path_factory.mktemp("run") / "a.steady")) as run:
        text = str(Story(run))
    assert f"{len(norms):,} optimizer step" in text
    assert (f"Healthy: {len(norms):,}" in text) == bool(np.isfinite(norms).all())


@pytest.mark.parametrize(("optimizers", "said"), [((), "12 steps in"), (("SGD",), "12 optimizer steps in")])
def test_a_loop_by_hand_has_steps_and_no_optimizer(tell, optimizers, said):
    assert f"steps     {said}" in str(tell([[1.0]] * 12, optimizers=optimizers))
