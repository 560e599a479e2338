from __future__ import annotations

import csv
import math
import subprocess
import sys

import numpy as np
import pytest

import steadygrad

NORMS = [[1.0, 2.0], [math.nan, 2.0], [math.inf, 0.0], [1e-30, 3e38]]
CHANGES = {
    1: {"skipped": True, "loss": math.nan},
    2: {"skipped": True, "loss": math.inf},
    3: {"clip_coef": 0.25, "cap": 1.5, "lr_factor": 0.5, "loss": 0.125},
}
FLOATS = ("total_norm", "clip_coef", "cap", "lr", "lr_factor", "loss", "time_s")


@pytest.fixture
def run(record):
    return record(NORMS, CHANGES)


@pytest.fixture
def rows(run, call, tmp_path):
    assert call("export", run, "--to", "csv", "-o", tmp_path / "out.csv")[0] == 0
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_columns_are_those_of_the_step_then_one_a_tensor(rows):
    assert list(rows[0]) == [
        "step",
        "resolution",
        "optimizer",
        "total_norm",
        "clip_coef",
        "cap",
        "skipped",
        "lr",
        "lr_factor",
        "loss",
        "time_s",
        "grad_norm/layers.0.weight",
        "grad_norm/layers.1.weight",
    ]


def test_csv_holds_what_the_run_holds(rows, run):
    with steadygrad.open_run(run) as recorded:
        for name in FLOATS:
            read = [float(row[name]) for row in rows]
            np.testing.assert_allclose(read, getattr(recorded, name), rtol=1e-8)
        for i, tensor in enumerate(recorded.info.tensors):
            read = [float(row[f"grad_norm/{tensor.name}"]) for row in rows]
            np.testing.assert_allclose(read, recorded.norms(tensor.name), rtol=1e-8)
            np.testing.assert_allclose(read, np.array(NORMS)[:, i], rtol=3e-3)
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3]
    assert [int(row["skipped"]) for row in rows] == [0, 1, 1, 0]
    assert [int(row["resolution"]) for row in rows] == [1, 1, 1, 1]


def test_nonfinite_numbers_are_written_as_words(rows):
    assert [row["grad_norm/layers.0.weight"] for row in rows][1:3] == ["nan", "inf"]
    assert rows[1]["total_norm"] == "nan"
    assert rows[2]["loss"] == "inf"


def test_csv_goes_to_stdout_for_a_dash(run, call):
    code, out, err = call("export", run, "--to", "csv", "-o", "-")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1 + len(NORMS)


def test_default_file_bears_the_name_of_the_run(run, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("export", run, "--to", "csv")
    assert code == 0
    assert out == "4 rows written to first.csv\n"
    assert (tmp_path / "first.csv").exists()


def test_parquet_holds_what_csv_holds(run, rows, call, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert call("export", run, "--to", "parquet", "-o", tmp_path / "out.parquet")[0] == 0
    table = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert list(table) == list(rows[0])
    for name, values in table.items():
        np.testing.assert_allclose([float(row[name]) for row in rows], values, rtol=1e-8)


def test_without_pyarrow_the_message_says_how_to_get_it(run, tmp_path):
    hide = "import sys; sys.modules['pyarrow'] = None; from steadygrad.cli import main; "
    code = f"{hide}main(['export', {str(run)!r}, '--to', 'parquet', '-o', {str(tmp_path / 'p')!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'steadygrad[parquet]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.glob("p*")) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--to", "parquet", "-o", "-"], "can't go to stdout"), (["--to", "xml"], "'xml'")],
)
def test_what_cant_be_written_is_wrong_usage(run, call, arguments, words):
    code, _, err = call("export", run, *arguments)
    assert code == 2
    assert words in err


def test_the_run_itself_is_never_overwritten(run, call):
    before = run.read_bytes()
    code, _, err = call("export", run, "--to", "csv", "-o", run)
    assert code == 2
    assert "is the run itself" in err
    assert run.read_bytes() == before


def test_a_folder_that_isnt_there_is_one_line_that_names_it(run, call, tmp_path):
    code, _, err = call("export", run, "--to", "csv", "-o", tmp_path / "no" / "out.csv")
    assert code == 1
    assert err.count("\n") == 1
    assert str(tmp_path / "no" / "out.csv") in err
    assert ".part" not in err


def test_a_file_that_is_there_is_overwritten_only_when_told_to(run, call, tmp_path):
    target = tmp_path / "out.csv"
    target.write_text("mine")
    code, _, err = call("export", run, "--to", "csv", "-o", target)
    assert (code, target.read_text()) == (2, "mine")
    assert "there already" in err
    assert "--force" in err
    assert call("export", run, "--to", "csv", "-o", target, "--force")[0] == 0
    assert target.read_text().startswith("step,")


def test_tensorboard_is_a_folder_of_event_files(run, call, tmp_path):
    pytest.importorskip("tensorboard")
    target = tmp_path / "logs"
    code, out, _ = call("export", run, "--to", "tensorboard", "-o", target)
    assert code == 0
    assert f"next: tensorboard --logdir {target}" in out
    assert len(list(target.glob("*.steadygrad"))) == 1
    assert call("export", run, "--to", "tensorboard", "-o", target)[0] == 2
    assert call("export", run, "--to", "csv", "-o", target)[0] == 2
    assert call("export", run, "--to", "tensorboard", "-o", "-")[0] == 2


@pytest.mark.parametrize("form", ["csv", "parquet", "tensorboard"])
def test_a_place_that_takes_no_files_is_named(run, call, form):
    code, out, err = call("export", run, "--to", form, "-o", "/proc/sub")
    assert (code, out) == (1, "")
    assert err.startswith("steadygrad: error: Can't write /proc/sub (")
    assert "Choose another place with -o." in err
    assert err.count("\n") == 1


def test_a_folder_is_no_run(run, call, tmp_path):
    code, _, err = call("export", tmp_path, "--to", "csv")
    assert code == 2
    assert f"{tmp_path} is a folder; expected a run file. `steadygrad runs {tmp_path}` lists" in err
