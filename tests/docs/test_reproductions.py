"""Every kind of finding has a training that shows it, leads to it, and is rid of it once the fault is taken out."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from steadygrad.catalog import CATALOG

FOLDER = Path(__file__).parents[2] / "docs" / "reproductions"

CURES = runpy.run_path(str(FOLDER.parent / "site" / "cures.py"))["CURES"]


def shown(script):
    """The kinds that come out of a script."""
    left = runpy.run_path(str(script))
    watched = left.get("monitor") or left.get("guard")
    found = watched.findings if watched else left["checkup"].findings
    if watched:
        watched.close()
    return [finding.kind for finding in found]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("STEADYGRAD_QUIET", "1")


@pytest.mark.parametrize("kind", CATALOG)
def test_the_reproduction_of_a_kind_shows_it(kind, capsys):
    assert kind in shown(FOLDER / f"{kind}.py")
    told = [line for line in capsys.readouterr().out.splitlines() if f": {kind}" in line]
    assert told
    if kind != "divergence":  # which is told below the rate that is its cause
        assert not [line for line in told if line.startswith("      then: ")]


@pytest.mark.parametrize("kind", CATALOG)
def test_without_its_fault_the_same_training_shows_it_not(kind, tmp_path):
    fault, cure = CURES[kind]
    before, found, after = (FOLDER / f"{kind}.py").read_text(encoding="utf-8").partition(fault)
    assert found, f"{fault!r} isn't in {kind}.py any more"
    healthy = tmp_path / f"{kind}.py"
    healthy.write_text(before + cure + after, encoding="utf-8")
    assert kind not in shown(healthy)


def test_no_reproduction_is_left_of_a_kind_that_is_gone():
    assert {script.stem for script in FOLDER.glob("*.py")} == set(CATALOG)
