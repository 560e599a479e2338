from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import steadygrad.demo
from steadygrad.cli.place import RUNS_FOLDER


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (RUNS_FOLDER, 0, False)),
        (["--out", "elsewhere", "--seed", "3", "--quick"], (Path("elsewhere"), 3, True)),
    ],
)
def test_options_reach_the_demo(call, monkeypatch, arguments, expected):
    parameters = inspect.signature(steadygrad.demo.run_demo)
    received = []

    def remember(*args, **kwargs):
        received.append(tuple(parameters.bind(*args, **kwargs).arguments.values()))

    monkeypatch.setattr(steadygrad.demo, "run_demo", remember)
    code, _, err = call("demo", *arguments)
    assert (code, err) == (0, "")
    assert received == [expected]


def test_a_file_is_no_folder_for_runs(call, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = call("demo", "--out", tmp_path / "file")
    assert code == 2
    assert err.count("\n") == 1
