from __future__ import annotations

import numpy as np
import pytest

from steadygrad.records import Reading, RunInfo, TensorInfo
from steadygrad.report.page.data.parting import parting
from steadygrad.report.page.pair import told_apart
from steadygrad.runfile import RunWriter, open_run


@pytest.fixture
def compare(record):
    def told(one, other, **info):
        runs = [open_run(record(norms, name=name, **info)) for norms, name in ((one, "a"), (other, "b"))]
        return parting(*runs)

    return told


def test_the_same_numbers_never_part(compare):
    norms = np.random.default_rng(0).lognormal(size=(300, 5))
    norms[40, 2] = np.nan
    found = compare(norms, norms)
    assert (found.first, found.twofold) == (None, None)
    assert found.shared_steps == 300
    assert "alike in all 300 steps and 5 tensors" in told_apart(found)["sentence"]


@pytest.mark.parametrize("at", [0, 63, 64, 200, 299])
def test_the_first_step_and_the_tensors_that_differ(compare, at):
    one = np.random.default_rng(1).lognormal(size=(300, 5))
    other = one.copy()
    other[at:, 3] *= 1.05
    other[min(at + 9, 299) :, 1] *= 40.0
    found = compare(one, other)
    assert found.first.step == at
    assert found.first.leaders[0].name == ("layers.3.weight" if at + 9 <= 299 else "layers.1.weight")
    assert found.twofold.step == min(at + 9, 299)
    assert found.twofold.leaders[0].name == "layers.1.weight"
    assert found.twofold.leaders[0].other == pytest.approx(40 * found.twofold.leaders[0].one, rel=0.01)


def test_what_the_record_rounds_away_is_no_difference(compare):
    one = np.random.default_rng(2).lognormal(size=(200, 4))
    assert compare(one, one * (1 + 1e-4)).first is None


def test_a_nan_in_one_is_a_difference(compare):
    one = np.ones((20, 2))
    other = one.copy()
    other[5, 1] = np.nan
    found = compare(one, other)
    assert (found.first.step, found.twofold.step) == (5, 5)
    assert told_apart(found)["tables"][0]["rows"] == [
        {"name": "layers.1.weight", "one": "1", "other": "non-finite"}
    ]


def test_other_models_share_nothing(record):
    one = open_run(record([[1.0]] * 3, name="a", tensors=(TensorInfo("x", (2, 2)),)))
    other = open_run(record([[1.0]] * 3, name="b", tensors=(TensorInfo("y", (2, 2)),)))
    assert "no tensor of the same name" in told_apart(parting(one, other))["sentence"]
    assert (
        "no step"
        in told_apart(parting(one, open_run(record(np.zeros((0, 1)), name="c", tensors=one.info.tensors))))[
            "sentence"
        ]
    )


@pytest.mark.parametrize("at", [(90, 40), (40, 90), (40, 40)])
def test_each_optimizer_is_compared_with_its_own_steps(tmp_path, at):
    infos = tuple(TensorInfo(name, (2,), optimizer=i) for i, name in enumerate(("generator", "critic")))

    def write(name, factors):
        with RunWriter(tmp_path / f"{name}.steady", RunInfo(name, tensors=infos)) as writer:
            for step in range(120):
                for optimizer in (0, 1):
                    factor = factors[optimizer] if step >= at[optimizer] else 1.0
                    absent = np.array([optimizer == 1, optimizer == 0])
                    norms = np.where(absent, 0.0, 2.0 * factor)
                    writer.append(Reading(step, norms, 2.0 * factor, absent=absent, optimizer=optimizer))
        return open_run(writer.path)

    with write("a", (1.0, 1.0)) as one, write("b", (1.5, 9.0)) as other:
        found = parting(one, other)
    assert (found.first.step, found.shared_tensors) == (min(at), 2)
    leaders = [one.name for one in found.first.leaders]
    assert leaders == (
        ["critic", "generator"] if at[0] == at[1] else ["critic" if at[1] < at[0] else "generator"]
    )
    assert found.first.count == len(leaders)
    assert (found.twofold.step, found.twofold.leaders[0].name) == (at[1], "critic")


def test_tables_say_how_they_are_sorted(compare):
    one = np.ones((20, 4))
    found = told_apart(compare(one, one * [1.1, 1.5, 1.2, 1.3]))
    (table,) = found["tables"]
    assert table["title"] == "The first to differ: step 0, largest difference first"
    assert [row["name"].split(".")[1] for row in table["rows"]] == ["1", "3", "2", "0"]


@pytest.mark.parametrize(
    ("factor", "state", "sign"), [(1.0, "healthy", "="), (2.0, "info", "≠"), (None, "empty", "?")]
)
def test_runs_that_cant_be_compared_are_not_called_alike(compare, factor, state, sign):
    one = np.ones((9, 2))
    told = told_apart(compare(one, one * factor if factor else np.zeros((0, 2))))
    assert (told["state"], told["sign"]) == (state, sign)


def test_what_differs_twofold_at_once_is_listed_once(compare):
    one = np.ones((9, 3))
    (table,) = told_apart(compare(one, one * [2.5, 3.0, 9.0]))["tables"]
    assert table["title"] == "The first to differ twofold: step 0, largest difference first"


def test_what_the_models_dont_share_is_said(record):
    def run(name, shapes):
        tensors = tuple(TensorInfo(text, shape) for text, shape in shapes.items())
        return open_run(record(np.ones((5, len(shapes))), name=name, tensors=tensors))

    one = run("a", {"in": (4, 4), "mid": (4, 4), "out": (1, 4)})
    other = run("b", {"in": (8, 4), "out": (1, 4)})
    note = told_apart(parting(one, other))["note"]
    assert "2 tensors that both have; A has 1 more." in note
    assert "differ from the start: 1 tensor." in note
    assert told_apart(parting(one, one))["note"] == ""
