"""The site as a reader has it: pages in a folder, opened in a browser that finds all there and asks the network for nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.chromium import chromium, missing

from steadygrad.catalog import CATALOG
from steadygrad.cli.program import SUBCOMMANDS

ROOT = Path(__file__).parents[2]
STATE = """
const shown = document.querySelector("img.plot")
return {
  scheme: document.body.dataset.mdColorScheme,
  wide: document.documentElement.scrollWidth - innerWidth,
  picture: shown ? shown.complete && shown.naturalWidth > 0 && shown.alt.length > 40 : null,
  cut: shown ? shown.getBoundingClientRect().right > innerWidth : false,
}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built anew."""
    pytest.importorskip("mkdocs", reason="pip install steadygrad[docs]")
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium that logs every request."""
    if missing():
        pytest.skip(missing())
    with chromium() as driver:
        yield driver


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert {f"{kind}.html" for kind in CATALOG} <= {page.name for page in pages}
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]* src=\"([^\"]+)\"|<link[^>]* href=\"([^\"]+)\"", page.read_text()
        )
        assert not [one for pair in loaded for one in pair if one.startswith(("http", "//"))], page


def test_the_pages_that_are_made_are_whole(site):
    for name in SUBCOMMANDS:
        assert f"steadygrad {name}" in (site / "commands.html").read_text(encoding="utf-8")
    assert "--cost--" not in (site / "comparison.html").read_text(encoding="utf-8")
    assert (site / "search" / "search_index.js").exists(), "a page opened from a folder can't be searched"


def test_examples_in_the_reference_are_code(site):
    for page in (site / "api").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<blockquote>" not in text, f"{page.name}: an example became a quotation"
        assert "<summary>Example</summary>" not in text
    assert "language-pycon" in (site / "api" / "guard.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (400, "dark")])
def test_every_page_fits_and_shows_its_picture_without_a_network(width, scheme, site, browser):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("performance")
    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html" or (width == 1200 and page.stem in list(CATALOG)[1:]):
            continue  # the first is shown by servers alone; findings differ in nothing that a wide page would show
        browser.get(page.as_uri())
        state = browser.execute_script(STATE)
        assert state["scheme"] == {"light": "default", "dark": "slate"}[scheme], page
        assert state["wide"] <= 0, f"{page.name} has to be scrolled sideways"
        assert not state["cut"], f"the picture of {page.name} is cut"
        if page.stem in CATALOG:
            assert state["picture"], f"{page.name} shows no picture"
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"}
    assert any(url.endswith(".svg") for url in urls)
    # The browser's own first tab asks by names of its own: chrome, chrome-untrusted.
    assert not [url for url in urls if url.partition(":")[0] in {"http", "https", "ws", "wss", "ftp"}]
