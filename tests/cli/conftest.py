from __future__ import annotations

import os

import pytest

from steadygrad.cli import main


@pytest.fixture(autouse=True)
def own_pace(monkeypatch):
    """`live` lowers the priority of its process for good: here that would be this process, with all tests to come."""
    monkeypatch.setattr(os, "nice", lambda _: 0, raising=False)


@pytest.fixture
def call(capfd):
    """Run one command line in this process; returns exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err

    return run
