from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import steadygrad

STEADYGRAD = [sys.executable, "-m", "steadygrad"]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_is_asked_for_or_given(call, arguments):
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: steadygrad ")


def test_version(call):
    assert call("--version") == (0, f"steadygrad {steadygrad.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("explian",), "No such command 'explian'. Did you mean 'explain'?"),
        (("frobnicate",), "No such command 'frobnicate'. See"),
        (("runs", "--frobnicate"), "--frobnicate"),
        (("explain",), "Missing argument 'RUN'"),
        (("export", "--to", "xml", "x.steady"), "--to"),
        (("runs", "not-a-folder"), "There is no folder not-a-folder."),
        (("explain", "not-a-run"), "There is no run 'not-a-run'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(call, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("steadygrad: error: ")
    assert words in err
    assert "--help`" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["explain", "export"])
def test_a_foreign_file_is_one_line_and_exit_code_1(call, tmp_path, command):
    foreign = tmp_path / "notes.txt"
    foreign.write_text("not a database")
    more = ["--to", "csv", "-o", tmp_path / "out.csv"] if command == "export" else []
    code, out, err = call(command, foreign, *more)
    assert (code, out) == (1, "")
    assert err.startswith("steadygrad: error: ")
    assert "notes.txt" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def piped(arguments, reader, env=None):
    """Pipe a command into a reader that may leave early; returns both ends' stderr and exit codes."""
    writer = subprocess.Popen(
        [*STEADYGRAD, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    reading = subprocess.run(reader, stdin=writer.stdout, capture_output=True, check=True)
    writer.stdout.close()
    err = writer.stderr.read().decode()
    writer.stderr.close()
    return writer.wait(), reading.stdout.decode(), err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["runs"], ["explain"], ["export", "--to", "csv", "-o", "-"]]
)
def test_a_reader_that_leaves_is_met_with_silence(record, arguments):
    run = record([[1.0, 2.0]] * 3000)
    place = {"runs": run.parent, "--help": None}.get(arguments[0], run)
    full = [*arguments[:1], *([place] if place else []), *arguments[1:]]
    leave_at_once = [sys.executable, "-c", "import os; os.close(0)"]
    code, _, err = piped(full, leave_at_once)
    assert err == ""
    assert code in {0, 1}


def test_a_full_disk_is_one_line(record):
    run = record([[1.0]] * 3000)
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*STEADYGRAD, "export", str(run), "--to", "csv", "-o", "-"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("steadygrad: error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_encoding_can_take_any_name(record, encoding):
    run = record([[1.0]] * 5, name="läufe-‖Δθ‖")
    code, out, err = piped(["explain", run], ["cat"], {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert (code, err) == (0, "")
    assert out.isascii() == (encoding == "ascii")


def test_a_closed_stdout_is_survived(record):
    run = record([[1.0]] * 5)
    script = f"exec {sys.executable} -m steadygrad explain {run} >&-"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
