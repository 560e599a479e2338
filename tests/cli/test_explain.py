from __future__ import annotations

import json

import pytest

from steadygrad.cli.place import RUNS_FOLDER


@pytest.mark.parametrize("typed", ["{path}", "first", "first.steady"])
def test_a_run_is_found_by_path_and_by_name(record, call, tmp_path, monkeypatch, typed):
    (tmp_path / RUNS_FOLDER).mkdir()
    path = record([[1.0]] * 12, path=tmp_path / RUNS_FOLDER / "first.steady")
    monkeypatch.chdir(tmp_path)
    code, out, err = call("explain", typed.format(path=path))
    assert (code, err) == (0, "")
    assert "Healthy: 12 steps, nothing to report." in out


def test_a_misspelt_run_is_answered_with_the_nearest(record, call, tmp_path, monkeypatch):
    (tmp_path / RUNS_FOLDER).mkdir()
    record([[1.0]], path=tmp_path / RUNS_FOLDER / "transformer.steady")
    monkeypatch.chdir(tmp_path)
    assert "Did you mean 'transformer'?" in call("explain", "transfomer")[2]


def test_a_folder_is_answered_with_the_command_for_folders(call, tmp_path):
    code, _, err = call("export", tmp_path, "--to", "csv")
    assert code == 2
    assert f"`steadygrad runs {tmp_path}`" in err


def test_piped_output_has_no_escape_codes(record, call):
    assert "\x1b" not in call("explain", record([[1.0]] * 12))[1]


@pytest.mark.parametrize(
    ("environment", "coloured"), [({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)]
)
def test_colour_follows_the_environment(record, call, monkeypatch, environment, coloured):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in call("explain", record([[1.0]] * 12))[1]) == coloured


@pytest.mark.parametrize("columns", [20, 40, 80, 400])
def test_any_width_will_do(record, call, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = call("explain", record([[1.0, 3.0]] * 500))
    assert (code, err) == (0, "")
    assert "layers.0.weight" in out


def test_incident_bundles_are_named(record, call):
    path = record([[1.0]] * 12)
    folder = path.with_name(f"{path.stem}.incidents") / "step-000007"
    folder.mkdir(parents=True)
    facts = {"format": 1, "step": 7, "action": "skip", "reason": "a NaN", "started": 1.7e9}
    (folder / "incident.json").write_text(json.dumps(facts))
    code, out, err = call("explain", path)
    assert (code, err) == (0, "")
    assert "Incident bundles" in out
    assert str(folder) in out.replace("\n", "")
    (folder / "incident.json").write_text(json.dumps({**facts, "started": 3.0}))
    assert "Incident bundles" not in call("explain", path)[1]
