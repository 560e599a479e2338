import dataclasses
import os
import sqlite3
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from steadygrad.errors import NotARunFile, RunFileError, UsageError
from steadygrad.records import Finding, Incident, Reading, Remedy, TensorInfo
from steadygrad.runfile import RunWriter, UnknownName, open_run

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(("steps", "tensors"), [(1, 1), (63, 4), (64, 4), (65, 4), (2500, 7), (300, 80)])
def test_a_run_comes_back_as_it_was(tmp_path, info, wild, steps, tensors):
    readings = wild(steps, tensors)
    with RunWriter(tmp_path / "a.steady", info(tensors)) as writer:
        for reading in readings:
            writer.append(reading)
    run = open_run(writer.path)
    truth = np.array([reading.norms for reading in readings])
    missing = np.array(
        [reading.absent if reading.absent is not None else [False] * tensors for reading in readings]
    )
    assert (writer.fault, run.finished, run.step_count) == (None, True, steps)
    np.testing.assert_array_equal(run.steps, np.arange(steps))
    np.testing.assert_allclose(run.norm_matrix(), truth, rtol=0.002)
    np.testing.assert_array_equal(run.norm_matrix(1, -1), run.norm_matrix()[1:-1])
    for index, tensor in enumerate(run.info.tensors):
        np.testing.assert_array_equal(run.norms(tensor.name), run.norm_matrix()[:, index])
        np.testing.assert_array_equal(run.norms(tensor.name, "max"), run.norms(tensor.name))
        np.testing.assert_array_equal(run.absent(tensor.name), missing[:, index])
    np.testing.assert_array_equal(run.nonfinite_count, (~np.isfinite(truth) & ~missing).sum(axis=1))
    for name in ("total_norm", "clip_coef", "lr", "lr_factor"):
        np.testing.assert_allclose(getattr(run, name), [getattr(r, name) for r in readings], rtol=2**-12)
    for name in ("loss", "cap"):
        plain = [NAN if getattr(r, name) is None else getattr(r, name) for r in readings]
        np.testing.assert_allclose(getattr(run, name), plain, rtol=2**-12)
    np.testing.assert_array_equal(run.loss_logged, [r.loss is not None for r in readings])
    np.testing.assert_array_equal(run.skipped, [r.skipped for r in readings])
    np.testing.assert_array_equal(run.overflow, [r.overflow for r in readings])
    np.testing.assert_allclose(run.time_s, [r.time_s for r in readings], atol=5e-4)
    measured = [r for r in readings if r.param_norms is not None]
    at, values = run.param_norms("layer.0")
    assert at.tolist() == [r.step for r in measured]
    np.testing.assert_allclose(values, [r.param_norms[0] for r in measured], rtol=0.002)
    assert run.update_norms("layer.0")[0].tolist() == [r.step for r in readings if r.update_norms is not None]


def test_a_run_without_a_step_is_empty_not_broken(tmp_path, info):
    with RunWriter(tmp_path / "a.steady", info(3)) as writer:
        pass
    run = open_run(writer.path)
    assert (
        run.steps.shape
        == run.total_norm.shape
        == run.norms("layer.0").shape
        == run.absent("layer.0").shape
        == (0,)
    )
    assert run.norm_matrix().shape == (0, 3)
    assert run.param_norms("layer.0")[0].size == 0
    assert (run.scalar_names, run.findings, run.incidents) == ((), (), ())


HOSTILE = ("</script>", "a'b\"c;--", "naïve ‖θ‖ 🔥", "line\nbreak\0nul", "", " ", "\ud800", "a" * 5000)


def test_hostile_names_come_back(tmp_path, info):
    tensors = tuple(TensorInfo(name, (1,)) for name in HOSTILE)
    fields = {
        "name": HOSTILE[0],
        "model": HOSTILE[2],
        "command": HOSTILE,
        "versions": {HOSTILE[1]: HOSTILE[3]},
    }
    told = info(**fields, tensors=tensors)
    finding = Finding("x", "error", 3, HOSTILE, HOSTILE[3], {HOSTILE[1]: NAN, "$float": INF})
    with RunWriter(tmp_path / "a's run?#%20.steady", told) as writer:
        writer.append(Reading(0, np.arange(1.0, 9.0), 1.0))
        writer.finding(finding)
        for name in HOSTILE:
            writer.scalar(1, name, NAN)
    run = open_run(writer.path)
    assert run.info == told
    assert run.scalar_names == HOSTILE
    back = run.findings[0]
    assert (back.where, back.summary, list(back.evidence)) == (HOSTILE, HOSTILE[3], [HOSTILE[1], "$float"])
    assert [run.norms(name)[0] for name in HOSTILE] == pytest.approx(range(1, 9), rel=0.002)


def test_ten_thousand_tensors(tmp_path, info):
    norms = np.linspace(1, 2, 10_000)
    with RunWriter(tmp_path / "a.steady", info(10_000)) as writer:
        for step in range(70):
            writer.append(Reading(step, norms, 1.0))
    run = open_run(writer.path)
    assert (writer.fault, run.steps.size, len(run.info.tensors)) == (None, 70, 10_000)
    np.testing.assert_allclose(run.norm_matrix()[69], norms, rtol=0.002)


def test_findings_and_incidents_come_back_whole(tmp_path, info):
    evidence = {"growth": INF, "share": NAN, "low": -INF, "plain": 0.5, "whole": 3}
    remedies = (Remedy("lower it", "lr=0.1"), Remedy("wait"))
    finding = Finding(
        "loss_spike", "warning", 7, ("a", "b"), "It rose.", evidence, ("x", "y"), remedies, "arXiv", 1
    )
    incident = Incident(9, "skip", "poisoned", ("a",), 1)
    with RunWriter(tmp_path / "a.steady", info()) as writer:
        writer.finding(finding)
        writer.incident(incident)
    run = open_run(writer.path)
    assert run.incidents == (incident,)
    back = run.findings[0]
    assert np.isnan(back.evidence["share"])
    same = {**back.evidence, "share": 0} == {**evidence, "share": 0}
    assert same
    assert dataclasses.replace(back, evidence={}) == dataclasses.replace(finding, evidence={})


def test_scalars_come_back_exactly(tmp_path, info):
    points = [
        (step, ("a", "b")[step % 2], [NAN, INF, -INF, -0.0, 1 / 3, 1e-320][step % 6]) for step in range(900)
    ]
    with RunWriter(tmp_path / "a.steady", info()) as writer:
        for point in points:
            writer.scalar(*point)
    run = open_run(writer.path)
    for name in ("a", "b"):
        steps, values = run.scalars(name)
        assert steps.tolist() == [step for step, n, _ in points if n == name]
        np.testing.assert_array_equal(values, [value for _, n, value in points if n == name])


def test_several_optimizers_interleave_in_order_of_writing(tmp_path, info, tensors_named):
    tensors = (*tensors_named(2), *tensors_named(1, optimizer=1, start=2))
    with RunWriter(tmp_path / "a.steady", info(tensors=tensors)) as writer:
        for step in range(100):
            writer.append(Reading(step, np.array([1.0, 2.0]), 3.0))
            if step % 2:
                writer.append(Reading(step // 2, np.array([5.0]), 5.0, optimizer=1))
    run = open_run(writer.path)
    second = run.optimizer == 1
    np.testing.assert_array_equal(run.steps[second], np.arange(50))
    np.testing.assert_allclose(run.norms("layer.2")[second], 5.0, rtol=0.002)
    np.testing.assert_array_equal(run.absent("layer.2"), ~second)


def test_parameters_added_later_were_absent_before(tmp_path, info, tensors_named):
    with RunWriter(tmp_path / "a.steady", info(2)) as writer:
        for step in range(40):
            writer.append(Reading(step, np.ones(2), 1.0))
        writer.add_tensors(tensors_named(3, start=2))
        for step in range(40, 100):
            writer.append(Reading(step, np.ones(5), 1.0))
    run = open_run(writer.path)
    assert len(run.info.tensors) == 5
    np.testing.assert_array_equal(run.absent("layer.4"), np.arange(100) < 40)
    np.testing.assert_allclose(run.norm_matrix()[:, 4], np.arange(100) >= 40, rtol=0.002)


def test_an_unknown_name_offers_close_ones(tmp_path, info):
    with RunWriter(tmp_path / "a.steady", info()) as writer:
        pass
    run = open_run(writer.path)
    with pytest.raises(UnknownName, match=r"no tensor named 'layer.O' in .* Did you mean 'layer\.\d'"):
        run.norms("layer.O")
    with pytest.raises(KeyError, match="no scalar named 'loss'"):
        run.scalars("loss")
    with pytest.raises(UsageError, match=r"'median'.: expected one of mean, min, max"):
        run.norms("layer.0", "median")


def test_a_reader_sees_a_run_while_it_is_written(tmp_path, info):
    writer = RunWriter(tmp_path / "a.steady", info(3))
    run = open_run(writer.path)
    for step in range(3000):
        writer.append(Reading(step, np.full(3, step + 1.0), step + 1.0))
        if step % 250 == 0:
            size = run.refresh().steps.size
            np.testing.assert_array_equal(run.steps, np.arange(size))
            np.testing.assert_allclose(run.norms("layer.1"), np.arange(size) + 1.0, rtol=0.002)
    assert writer.flush()
    before = run.steps.size
    assert (run.refresh().steps.size, run.finished) == (3000, False)
    assert before < 3000
    writer.close()
    assert run.refresh().finished


def test_a_missing_path_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(RunFileError, match=r"no run can be read at .*No such file"):
        open_run(tmp_path / "none.steady")
    with pytest.raises(RunFileError, match="is a folder"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"hello", "not a steadygrad run"), (os.urandom(5000), "not a steadygrad run")],
)
def test_other_files_are_not_runs(tmp_path, content, words):
    (tmp_path / "a.steady").write_bytes(content)
    with pytest.raises(NotARunFile, match=words):
        open_run(tmp_path / "a.steady")


def test_a_database_of_another_program_is_not_a_run(tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE run(id)")
    connection.close()
    with pytest.raises(NotARunFile, match="another program"):
        open_run(tmp_path / "a.db")


def test_a_newer_layout_asks_for_an_upgrade(tmp_path, info):
    with RunWriter(tmp_path / "a.steady", info()) as writer:
        pass
    connection = sqlite3.connect(writer.path)
    connection.execute("PRAGMA user_version=99")
    connection.commit()
    connection.close()
    with pytest.raises(RunFileError, match=r"newer steadygrad \(layout 99"):
        open_run(writer.path)


def test_a_cut_file_says_so(tmp_path, info, wild):
    with RunWriter(tmp_path / "a.steady", info(4)) as writer:
        for reading in wild(500, 4):
            writer.append(reading)
    whole = (tmp_path / "a.steady").read_bytes()
    for size in range(10, len(whole), len(whole) // 9):
        (tmp_path / "cut.steady").write_bytes(whole[:size])
        with pytest.raises(NotARunFile):
            open_run(tmp_path / "cut.steady")


READ_AS_NOBODY = """
    import os, sys
    from steadygrad.runfile import open_run
    os.setgid(65534)
    os.setuid(65534)
    print(open_run(sys.argv[1]).steps.size)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("killed", [False, True])
def test_a_run_in_a_folder_that_cant_be_written_is_readable(tmp_path_factory, info, killed):
    folder = tmp_path_factory.mktemp("medium")
    writer = RunWriter(folder / "a.steady", info(2))
    for step in range(50):
        writer.append(Reading(step, np.ones(2), 1.0))
    assert writer.flush()
    copy = folder / "copy"
    copy.mkdir()
    for name in [path.name for path in folder.iterdir()]:
        if name.startswith("a.steady") and not name.endswith("-shm") and killed:
            (copy / name).write_bytes((folder / name).read_bytes())
    writer.close()
    if not killed:
        (copy / "a.steady").write_bytes((folder / "a.steady").read_bytes())
    for path in [copy, *copy.iterdir()]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in copy.parents:
        if path.stat().st_uid == 0 and str(path) not in ("/", "/tmp"):
            path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ_AS_NOBODY), str(copy / "a.steady")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.stdout.strip(), done.stderr) == ("50", "")
