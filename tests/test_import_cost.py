"""`steadygrad --help` stays instant: counted in modules, which don't depend on the machine's load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from steadygrad.cli.program import SUBCOMMANDS

HEAVY = {"torch", "numpy", "rich", "sqlite3", "sklearn", "pyarrow", "scipy", "importlib.metadata"}


def imported_by(*arguments: str) -> set[str]:
    """Every module that one command line imports, told when the interpreter ends."""
    report = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    call = f"{report}; from steadygrad.cli import main; main({list(arguments)!r})"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(arguments):
    assert imported_by(*arguments).isdisjoint(HEAVY)


def test_help_imports_no_subcommand():
    loaded = imported_by("--help")
    assert loaded.isdisjoint(subcommand.module for subcommand in SUBCOMMANDS.values())


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_of_a_subcommand_imports_no_torch(name):
    loaded = imported_by(name, "--help")
    assert SUBCOMMANDS[name].module in loaded
    assert loaded.isdisjoint({"torch", "numpy", "sklearn", "pyarrow"})


def test_the_probe_sees_heavy_modules(tmp_path):
    assert "sqlite3" in imported_by("runs", str(tmp_path))
