"""The page in a real browser: what people do with it, and that it asks the network for nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from steadygrad.records import Finding, Incident, Remedy, TensorInfo
from steadygrad.report.page import render, render_pair
from steadygrad.runfile import open_run

VIEW = """
const [name] = arguments
const walk = (view) => view.model.name === name ? view : (view.child_views ?? []).map(walk).find((found) => found)
const view = [...Bokeh.index.roots].map(walk).find((found) => found)
"""
MODEL = """
const [name] = arguments
const model = [...Bokeh.documents[0]._all_models.values()].find((one) => one.name === name)
"""
WAITED_S = 20


@pytest.fixture
def write(record, tmp_path):
    def make(name="first", evil="", factor=1.0):
        norms = np.ones((400, 8)) * factor
        norms[200] = 1e6
        norms[300, 3] = np.nan
        names = [f"layers.{i // 2}{evil}.{'wb'[i % 2]}" for i in range(8)]
        found = [
            Finding(
                "exploding_gradient",
                "error",
                200,
                (names[0],),
                f"It explodes{evil}.",
                remedies=(Remedy("Slower", "lr /= 10"),),
            ),
            Finding("dead_units", "warning", 390, (names[5],), "Units are dead."),
        ]
        changes = {step: {"loss": 2.0, "skipped": step == 300} for step in range(400)}
        tensors = tuple(TensorInfo(text, (3, 3)) for text in names)
        return record(norms, changes, found, name=name, tensors=tensors)

    return make


@pytest.fixture
def open_page(browser, tmp_path):
    def show(text, scheme="light"):
        from selenium.webdriver.support.ui import WebDriverWait

        page = tmp_path / "page.html"
        page.write_text(text, "utf-8")
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        for kind in ("browser", "performance"):
            browser.get_log(kind)
        browser.get(page.as_uri())
        ready = (
            "return typeof Bokeh !== 'undefined' && Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle"
        )
        WebDriverWait(browser, WAITED_S).until(lambda b: b.execute_script(ready))
        return browser

    return show


def until(browser, script, *arguments):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, WAITED_S).until(lambda b: b.execute_script(script, *arguments))


def click(browser, figure, x, y):
    """Click into a picture, at coordinates of its axes."""
    from selenium.webdriver import ActionChains

    place = VIEW + (
        "const {x_scale, y_scale, bbox} = view.frame; const box = view.el.getBoundingClientRect();"
        "window.scrollBy({top: box.top - 200, behavior: 'instant'}); const now = view.el.getBoundingClientRect();"
        "return [now.left + x_scale.compute(arguments[1]), now.top + y_scale.compute(arguments[2])]"
    )
    left, top = browser.execute_script(place, figure, x, y)
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(round(left), round(top))
    actions.w3c_actions.pointer_action.click()
    actions.perform()


def keep_screenshot(browser, name):
    """An artefact for a person to look at, where STEADYGRAD_SCREENSHOTS names a folder."""
    folder = os.environ.get("STEADYGRAD_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def requests(browser):
    """Addresses asked for since the page was opened, but for the page itself and the browser's own first tab."""
    asked = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    return [address for address in asked if not address.startswith(("data:", "blob:", "chrome"))][1:]


def complaints(browser):
    return [
        entry["message"] for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}
    ]


@pytest.mark.slow
def test_what_a_reader_does(open_page, write):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    with open_run(write()) as run:
        browser = open_page(render(run))
    rows = MODEL + "return model.data.name?.length ?? model.data.text?.length"
    assert until(browser, rows, "rows") == 8
    keep_screenshot(browser, "report")

    second = browser.find_element(By.ID, "finding-2")
    assert second.get_attribute("open") is None
    click(browser, "what happened", 390, "findings")
    until(browser, "return document.getElementById('finding-2').open")
    assert browser.switch_to.active_element.tag_name == "summary"

    browser.find_element(By.CSS_SELECTOR, "#finding-1 .show").click()
    start, end = browser.execute_script(MODEL + "return [model.start, model.end]", "steps")
    assert 150 < start < 200 < end < 250
    focused = browser.switch_to.active_element
    focused.send_keys("-")
    wider = browser.execute_script(MODEL + "return model.end - model.start", "steps")
    assert wider == pytest.approx(2 * (end - start))
    focused.send_keys(Keys.ARROW_RIGHT)
    assert browser.execute_script(MODEL + "return model.start", "steps") > start - (end - start) / 2
    focused.send_keys("0")
    assert browser.find_element(By.ID, "told").get_attribute("textContent") == "Steps 0 to 399."
    assert browser.execute_script(MODEL + "return model.end - model.start", "steps") > 399

    click(browser, "modules", 0.1, 3.0)
    until(browser, MODEL + "return model.data.name.length === 7 && model.data.name[2] === 'layers.1'", "rows")
    folded = browser.execute_script(
        MODEL + "const i = model.data.image[0]; return i[2 * i.shape[1] + 300]", "heat"
    )
    assert folded == 65535
    browser.execute_script(
        "const order = [...Bokeh.documents[0]._all_models.values()].find((m) => m.title === 'Order of the rows');"
        "order.value = 'worst'"
    )
    assert until(browser, MODEL + "return model.data.name[0]", "rows") in {"layers.1", "layers.1.b"}
    keep_screenshot(browser, "report-folded")
    assert (requests(browser), complaints(browser)) == ([], [])


@pytest.mark.slow
def test_marks_are_reached_by_keyboard(open_page, write):
    from selenium.webdriver.common.keys import Keys

    with open_run(write()) as run:
        browser = open_page(render(run))
    browser.find_element("css selector", "#finding-1 .show").click()
    ringed = MODEL + "return model.selected.indices"
    first = browser.find_element("id", "mark-1")
    browser.execute_script("arguments[0].focus()", first)
    assert browser.execute_script(ringed, "findings") == [0]
    first.send_keys(Keys.ARROW_RIGHT)
    second = browser.switch_to.active_element
    assert second.get_attribute("id") == "mark-2"
    assert browser.execute_script(ringed, "findings") == [1]
    start, end = browser.execute_script(MODEL + "return [model.start, model.end]", "steps")
    assert start <= 390 <= end
    assert second.value_of_css_property("outline-style") == "solid"
    keep_screenshot(browser, "marks")
    second.send_keys(Keys.ENTER)
    until(browser, "return document.getElementById('finding-2').open")
    summary = browser.switch_to.active_element
    assert summary.tag_name == "summary"
    assert browser.execute_script(ringed, "findings") == []
    summary.send_keys(Keys.ESCAPE)
    assert browser.switch_to.active_element.get_attribute("id") == "mark-2"
    browser.switch_to.active_element.send_keys(Keys.HOME)
    assert browser.switch_to.active_element.get_attribute("id") == "mark-1"
    assert complaints(browser) == []


@pytest.mark.slow
def test_two_runs_and_hostile_names(open_page, write):
    evil = "</script><img src=x onerror=\"document.title='owned'\">"
    with open_run(write("a", evil)) as one, open_run(write("b", evil, factor=3.0)) as other:
        browser = open_page(render_pair(one, other))
        keep_screenshot(browser, "comparison")
        assert "The runs part at step 0" in browser.find_element("id", "verdict").text
        assert (requests(browser), complaints(browser)) == ([], [])
        browser = open_page(render(one))
        assert evil in browser.find_element("css selector", "#finding-1 .summary").text
        assert browser.title == "a: steadygrad report"
        assert (requests(browser), complaints(browser)) == ([], [])


@pytest.mark.slow
def test_a_run_without_a_finite_number_and_paper(open_page, record):
    changes = {step: {"loss": float("nan")} for step in range(30)}
    with open_run(record(np.full((30, 4), np.nan), changes)) as run:
        browser = open_page(render(run), "dark")
    keep_screenshot(browser, "report-dark")
    assert complaints(browser) == []
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(printed["data"]) > 20_000
    assert browser.execute_script("return document.querySelectorAll('.copy-for-paper').length") == 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_sticks_out_of_the_page(open_page, record, width):
    long = "x" * 300
    tensors = tuple(TensorInfo(f"{long}.{i}", (3, 3)) for i in range(4))
    found = [
        Finding("exploding_gradient", "error", 5, (tensors[0].name,), f"It explodes in {long}."),
        Finding("nonfinite_activation", "error", 6, (long,), f"Inf first made by aten.addmm in {long}"),
    ]
    done = [Incident(6, "rollback", f"{long}: back to the state of step 3", (long,))]
    with open_run(record(np.ones((30, 4)), {}, found, done, tensors=tensors)) as run:
        browser = open_page(render(run))
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            until(browser, "return document.documentElement.scrollWidth <= arguments[0]", width)
            # A table that has to be scrolled sideways hides what matters most: why.
            assert browser.execute_script(_SCROLLED) == []
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


_SCROLLED = (
    "return [...document.querySelectorAll('.wide')].filter((one) => one.scrollWidth > one.clientWidth + 1)"
)


@pytest.mark.slow
def test_paper_has_the_pictures_without_their_controls(open_page, record):
    changes = {step: {"loss": 1.0} for step in range(30)}
    with open_run(record(np.ones((30, 4)) * [8.0, 4.0, 2.0, 1.0], changes)) as run:
        browser = open_page(render(run))
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    drawn = browser.execute_script(_PRINTED)
    assert [tag for tag, _, _ in drawn if tag == "P"]  # what the slider had chosen
    assert all((above < 60, told) == (True, 1) for tag, above, told in drawn if tag == "IMG"), drawn
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")


_PRINTED = """
return [...document.querySelectorAll(".copy-for-paper")].map((copy) => {
  if (copy.tagName === "P") return ["P", 0, copy.textContent]
  const canvas = document.createElement("canvas")
  canvas.width = copy.naturalWidth
  canvas.height = copy.naturalHeight
  const pen = canvas.getContext("2d")
  pen.drawImage(copy, 0, 0)
  const {data} = pen.getImageData(0, 0, canvas.width, canvas.height)
  let row = 0
  while (row < canvas.height && !data.subarray(row * canvas.width * 4, (row + 1) * canvas.width * 4).some((one) => one)) row++
  return ["IMG", row, copy.getAttribute("height") / copy.naturalHeight]
})
"""


@pytest.mark.slow
def test_tab_reaches_what_can_be_used_and_nothing_else(open_page, write):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    with open_run(write()) as run:
        browser = open_page(render(run))
    reached = []
    while not reached or reached[-1] != "BODY":
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(browser.execute_script(_REACHED))
    assert reached[:2] == ["skip", "SUMMARY"]
    counts = {name: reached.count(name) for name in reached}
    assert counts["show"] == 1  # of the open card; the other one is closed
    assert counts["SUMMARY"] == 2
    assert counts["copy"] == 1
    assert counts["mark"] == 1  # arrows go on from there
    assert counts["canvas"] == browser.execute_script("return document.querySelectorAll('.canvas').length")
    assert counts["bk-input"] == 2
    assert counts["noUi-handle"] == 1
    assert "bk-layer" not in counts


_REACHED = """
let one = document.activeElement
while (one.shadowRoot?.activeElement) one = one.shadowRoot.activeElement
return one.className.split(" ")[0] || one.tagName
"""


@pytest.mark.slow
def test_keys_follow_a_click_into_a_picture_and_a_slider_says_its_step(open_page, write):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    with open_run(write()) as run:
        browser = open_page(render(run))
    width = MODEL + "return model.end - model.start"
    browser.find_element("css selector", "#finding-1 .show").click()
    near = browser.execute_script(width, "steps")
    click(browser, "total norm", 200, 1.0)
    ActionChains(browser).send_keys("0").perform()
    assert browser.execute_script(width, "steps") > 399 > near
    handle = VIEW.replace("view.model.name === name", "view.model.type === name") + (
        "const handle = view.shadow_el.querySelector('.noUi-handle');"
    )
    browser.execute_script(handle + "handle.focus()", "Slider")
    assert browser.execute_script(handle + "return handle.ariaLabel", "Slider") == "step to show"
    before = until(browser, handle + "return handle.getAttribute('aria-valuetext')", "Slider")
    assert before == "step 200"
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
    changed = (
        handle
        + "const text = handle.getAttribute('aria-valuetext'); return text !== arguments[1] && text.startsWith('step') && text"
    )
    assert until(browser, changed, "Slider", before).startswith("step 2")
    assert browser.execute_script(width, "steps") > 399  # the arrow was the slider's
