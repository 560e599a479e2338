"""Every kind of finding has a training that shows it, and the finding comes out."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from steadygrad.catalog import CATALOG

FOLDER = Path(__file__).parents[2] / "docs" / "reproductions"


@pytest.mark.parametrize("kind", CATALOG)
def test_the_reproduction_of_a_kind_shows_it(kind, capsys, monkeypatch):
    monkeypatch.setenv("STEADYGRAD_QUIET", "1")
    left = runpy.run_path(str(FOLDER / f"{kind}.py"))
    watched = left.get("monitor") or left.get("guard")
    found = watched.findings if watched else left["checkup"].findings
    if watched:
        watched.close()
    assert kind in [finding.kind for finding in found]
    assert kind in capsys.readouterr().out
