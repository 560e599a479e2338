"""Every kind of finding has its picture, and the picture is what its training shows today."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from steadygrad.catalog import CATALOG

DOCS = Path(__file__).parents[2] / "docs"
KEPT = DOCS / "pictures"
EXPLAINED = {"through_time", "through_depth", "transformer"}  # on the page of what explodes


def told(folder, kind):
    """The text alternative without its numbers, which another processor rounds otherwise."""
    text = (folder / f"{kind}.txt").read_text(encoding="utf-8")
    text = re.sub(r"led by .*", "", text)  # which of several explodes most is chance
    return re.sub(r"-?\d[\d.,]*(e[+-]?\d+)?", "#", text)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """All pictures of findings, made anew."""
    pytest.importorskip("matplotlib", reason="pip install steadygrad[docs]")
    folder = tmp_path_factory.mktemp("pictures")
    subprocess.run(
        [sys.executable, str(DOCS / "site" / "pictures.py"), "--into", str(folder), *CATALOG],
        check=True,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    return folder


def test_every_kind_has_its_picture_and_none_is_left_of_a_kind_that_is_gone():
    for end in ("svg", "txt"):
        assert {path.stem for path in KEPT.glob(f"*.{end}")} == set(CATALOG) | EXPLAINED


@pytest.mark.parametrize("kind", CATALOG)
def test_a_picture_says_what_its_training_shows_today(kind, drawn):
    assert told(KEPT, kind) == told(drawn, kind), f"draw it again: python docs/site/pictures.py {kind}"


@pytest.mark.parametrize("picture", sorted(KEPT.glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_is_whole_and_loads_nothing(picture):
    root = ET.parse(picture).getroot()
    links = [
        value
        for part in root.iter()
        for name, value in part.attrib.items()
        if name.rpartition("}")[2] == "href"
    ]
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    assert len(picture.read_bytes()) < 80_000
