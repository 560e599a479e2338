"""Run one program twice, by python and by ``steadygrad run``, in the same place."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass

import pytest

OURS = re.compile(r"^steadygrad: .*\n", re.MULTILINE)
# `python -m` shows the two frames of runpy that call the module; ours calls it without.
RUNPY = re.compile(r'^  File "<frozen (runpy|importlib\.util)>".*\n', re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What a process leaves behind."""

    out: str
    err: str
    code: int


@pytest.fixture
def both(tmp_path):
    """``both([flags of python], [program and arguments])``: the outcome by python and by us."""

    def run(flags, program, cwd=tmp_path, steadygrad=(), **options):
        outcomes = []
        for middle in ([], ["-m", "steadygrad", "run", *steadygrad]):
            done = subprocess.run(
                [sys.executable, *flags, *middle, *program],
                cwd=cwd,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
                **options,
            )
            outcomes.append(Outcome(done.stdout, RUNPY.sub("", done.stderr), done.returncode))
        plain, ours = outcomes
        return plain, Outcome(ours.out, OURS.sub("", ours.err), ours.code)

    return run


@pytest.fixture
def write(tmp_path):
    """Write a file below the test's folder."""

    def put(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return put
