"""A shell leaves the tilde in --output=~/a.csv, and a program that starts us expands none."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture
def run(record, home):
    return record([[1.0, 2.0]] * 3, path=home / "first.steady")


def test_a_run_is_found_there(call, run):
    code, out, _ = call("explain", "~/first.steady")
    assert code == 0
    assert "first" in out


def test_runs_are_listed_there(call, run):
    code, out, _ = call("runs", "~")
    assert code == 0
    assert "first.steady" in out


@pytest.mark.parametrize("command", [["export", "--to", "csv"], ["report"]])
def test_what_is_written_lies_there(call, run, home, command):
    code, _, err = call(*command, "~/first.steady", "--output=~/out.file")
    assert code == 0, err
    assert (home / "out.file").is_file()
    assert not (home.parent / "~").exists()


def test_a_bundle_is_looked_for_there(call, home):
    _, _, err = call("replay", "~/no.incidents", "--factory", "os:getcwd")
    assert str(home / "no.incidents") in err


def test_runs_of_a_script_lie_there(home):
    script = home / "script.py"
    script.write_text(
        "import torch\n"
        "model = torch.nn.Linear(2, 1)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "model(torch.ones(3, 2)).sum().backward()\n"
        "optimizer.step()\n"
    )
    command = [sys.executable, "-m", "steadygrad", "run", "-q", "--out=~/runs", str(script)]
    subprocess.run(command, check=True, cwd=home.parent)
    assert [one.suffix for one in (home / "runs").iterdir()] == [".steady"]
    assert [one.name for one in home.parent.iterdir()] == ["home"]
