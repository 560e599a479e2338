from __future__ import annotations

import os
import time

import pytest

from steadygrad.records import Finding, RunInfo
from steadygrad.report.run_table import run_lines
from steadygrad.report.vitals import STILL_WRITING_S
from steadygrad.runfile import RunSummary, RunWriter, list_runs


def test_runs_are_listed_newest_first(record, call, tmp_path):
    record([[3.0]] * 1200, name="old", started=1.6e9)
    worrying = Finding("exploding_gradient", "warning", 7, ("a",), "grows")
    record([[3.0]] * 12, name="new", started=1.7e9, findings=[worrying])
    code, out, err = call("runs", tmp_path)
    assert (code, err) == (0, "")
    header, first, second = out.splitlines()
    assert header.split() == ["started", "mode", "steps", "last", "norm", "findings", "state", "run"]
    assert first.split()[-5:] == ["3", "1", "warning", "finished", "new.steady"]
    assert second.split()[-5:] == ["1,200", "3", "none", "finished", "old.steady"]
    assert header.index("run") == first.index("new.steady") == second.index("old.steady")


def test_the_ill_ones_are_picked_out_the_worst_first(record, call, tmp_path):
    worrying = Finding("exploding_gradient", "warning", 7, ("a",), "grows")
    ruined = Finding("nonfinite_gradient", "error", 8, ("a",), "is NaN")
    noted = Finding("clip_is_step_limiter", "info", 8, ("a",), "clips")
    record([[3.0]], name="well")
    record([[3.0]], name="noted", findings=[noted])
    record([[3.0]], name="worrying", findings=[worrying, worrying])
    record([[3.0]], name="ruined", findings=[ruined])
    record([[3.0], [float("nan")]], name="broken")
    code, out, err = call("runs", tmp_path, "--ill")
    assert (code, err) == (0, "")
    assert [line.split()[-1] for line in out.splitlines()[1:-1]] == [
        "ruined.steady",
        "worrying.steady",
        "broken.steady",
    ]
    assert out.splitlines()[-1] == f"3 of 5 runs in {tmp_path} are ill."


def test_none_is_ill(record, call, tmp_path):
    record([[3.0]], name="well")
    assert call("runs", tmp_path, "--ill")[1] == f"0 of 1 runs in {tmp_path} are ill.\n"


def test_a_folder_without_runs_says_how_to_record_one(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("runs")
    assert (code, err) == (0, "")
    assert "No runs in steadygrad-runs." in out
    assert "steadygrad.guard(" in out


def test_foreign_files_are_passed_over(record, call, tmp_path):
    record([[1.0]])
    (tmp_path / "other.steady").write_text("nothing of ours")
    code, out, _ = call("runs", tmp_path)
    assert code == 0
    assert "first.steady" in out
    assert "other" not in out


@pytest.mark.parametrize("columns", [10, 60, 300])
def test_a_run_is_one_line_with_its_whole_name_in_any_width(record, call, tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    record([[1.0]], name="a-run-with-quite-a-long-name-indeed")
    lines = call("runs", tmp_path)[1].splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("  a-run-with-quite-a-long-name-indeed.steady")


def test_control_characters_in_a_name_dont_reach_the_terminal(record, call, tmp_path):
    os.rename(record([[1.0]]), tmp_path / "evil\x1b[2J.steady")  # noqa: PTH104
    out = call("runs", tmp_path)[1]
    assert "\x1b" not in out
    assert "evil\\x1b[2J.steady" in out


def shown_state(run, now_s):
    line = list(run_lines([run], now_s))[1].plain
    return line.removesuffix("open.steady").rpartition("none")[2].strip()


def test_a_run_that_is_being_written_is_told_from_one_that_was_cut_off(tmp_path):
    with RunWriter(tmp_path / "open.steady", RunInfo("open", started=time.time())) as writer:
        assert writer.flush()
        (run,) = list_runs(tmp_path)
        assert shown_state(run, time.time()) == "recording"
        assert shown_state(run, time.time() + STILL_WRITING_S) == "cut off"
    (run,) = list_runs(tmp_path)
    assert shown_state(run, time.time() + STILL_WRITING_S) == "finished"


def test_a_run_in_place_of_a_folder_is_told_by_another_command(record, call):
    path = record([[1.0]])
    code, _, err = call("runs", path)
    assert code == 2
    assert (
        f"{path} is a file; expected a folder. If it is a run, `steadygrad explain {path}` tells it." in err
    )


@pytest.mark.parametrize("width", [20, 40, 58, 76, 200])
def test_in_a_narrow_terminal_the_names_stay(width):
    runs = [
        RunSummary(f"/somewhere/run-{i}.steady", "n", "watch", 1.7e9, 60, {"error": 3 * i}, 2.0, 1.7e9, True)
        for i in range(3)
    ]
    lines = [line.plain for line in run_lines(runs, 1.7e9, width)]
    assert [line.split()[-1] for line in lines[1:]] == ["run-0.steady", "run-1.steady", "run-2.steady"]
    assert all(len(line) <= width for line in lines)
    assert ("findings" in lines[0]) == (width >= 40)
    assert ("started" in lines[0]) == (width >= 76)
