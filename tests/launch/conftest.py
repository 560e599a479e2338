"""Scripts as people write them, run under ``steadygrad run`` in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from steadygrad import open_run
from steadygrad.runfile import list_runs

SCRIPTS = Path(__file__).parent / "scripts"


@dataclass(frozen=True)
class Ended:
    """What a process has left behind, and the runs it has recorded, in the order they were begun."""

    out: str
    err: str
    code: int
    folder: Path

    @property
    def closing(self):
        return self.err.splitlines()[-1] if self.err else ""

    @property
    def runs(self):
        found = sorted(list_runs(self.folder), key=lambda run: run.started) if self.folder.is_dir() else []
        return [open_run(run.path) for run in found]

    def losses(self, word="loss"):
        """What the script printed after a word."""
        lines = [line.split() for line in self.out.splitlines()]
        return [float(line[line.index(word) + 1]) for line in lines if word in line[:-1]]


def _environment():
    kept = {k: v for k, v in os.environ.items() if k not in {"RANK", "WORLD_SIZE", "STEADYGRAD_QUIET"}}
    return {**kept, "PYTHONWARNINGS": "error::UserWarning"}


@pytest.fixture
def launched(tmp_path):
    """``launched("gan.py", "--guard")``; a name that is a path is taken as it is."""

    def run(script, *ours, args=(), env=None):
        out = tmp_path / "runs"
        program = [script] if script.startswith("-m") else [str(SCRIPTS / script)]
        words = ["-m", "steadygrad", "run", *ours, "--out", str(out), *program, *args]
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=tmp_path,
            env={**_environment(), **(env or {})},
        )
        return Ended(done.stdout, done.stderr, done.returncode, out)

    return run


@pytest.fixture
def plain(tmp_path):
    """The same by python."""

    def run(script, args=()):
        done = subprocess.run(
            [sys.executable, str(SCRIPTS / script), *args],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=tmp_path,
            env=_environment(),
        )
        return Ended(done.stdout, done.stderr, done.returncode, tmp_path / "none")

    return run


@pytest.fixture
def write(tmp_path):
    """Write a script into the test's folder; returns its path, for ``launched``."""

    def put(text, name="train.py"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return put
