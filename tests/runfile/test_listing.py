import math
import os
import shutil
import time

import numpy as np
import pytest

from steadygrad.errors import RunFileError
from steadygrad.records import Finding, Reading
from steadygrad.runfile import RunWriter, list_runs


def test_a_list_tells_how_each_run_fared(tmp_path, info):
    with RunWriter(tmp_path / "old.steady", info(2, name="old", started=100.0, mode="guard")) as writer:
        for step in range(150):
            writer.append(Reading(step, np.ones(2), step + 0.5))
        for severity in ("error", "warning", "error"):
            writer.finding(Finding("x", severity, 1, (), "s"))
    live = RunWriter(tmp_path / "new.steady", info(2, name="new", started=200.0))
    new, old = list_runs(tmp_path)
    live.close()
    assert (old.path, old.name, old.mode, old.started) == (writer.path, "old", "guard", 100.0)
    assert (old.steps, dict(old.findings), old.last_total_norm) == (150, {"error": 2, "warning": 1}, 149.5)
    assert abs(old.last_written - time.time()) < 60
    assert (new.name, new.steps, dict(new.findings)) == ("new", 0, {})
    assert math.isnan(new.last_total_norm)
    assert (old.finished, new.finished) == (True, False)


def test_a_last_total_norm_of_nan_or_inf_is_told(tmp_path, info):
    for value in (math.nan, math.inf):
        with RunWriter(tmp_path / f"{value}.steady", info(1, started=value == math.inf)) as writer:
            writer.append(Reading(0, np.ones(1), value))
    newest, oldest = list_runs(tmp_path)
    assert newest.last_total_norm == math.inf
    assert math.isnan(oldest.last_total_norm)


def test_other_files_are_passed_over(tmp_path, info):
    with RunWriter(tmp_path / "a.steady", info(1)) as writer:
        pass
    (tmp_path / "model.pt").write_bytes(os.urandom(9999))
    (tmp_path / "empty").touch()
    (tmp_path / "folder.steady").mkdir()
    assert [run.path for run in list_runs(tmp_path)] == [writer.path]


def test_hundreds_of_runs_are_listed_quickly(tmp_path, info):
    with RunWriter(tmp_path / "0.steady", info(500)) as writer:
        for step in range(300):
            writer.append(Reading(step, np.ones(500), 1.0))
    for number in range(1, 300):
        shutil.copy(writer.path, tmp_path / f"{number}.steady")
    start = time.perf_counter()
    assert len(list_runs(tmp_path)) == 300
    assert time.perf_counter() - start < 3


def test_a_missing_folder_says_so(tmp_path):
    with pytest.raises(RunFileError, match="can't list the runs in"):
        list_runs(tmp_path / "none")
