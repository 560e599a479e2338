"""What a person sees in a real browser while a run is written."""

from __future__ import annotations

import time

import numpy as np
import pytest

from steadygrad.records import Finding, Reading, RunInfo, TensorInfo
from steadygrad.runfile import RunWriter

STEP = "return Number((document.getElementById('live-step')?.textContent ?? '-1').replace(/,/g, ''))"
SOURCE = """
for (const doc of Bokeh.documents) for (const model of doc._all_models.values())
  if (model.name === arguments[0] && model.data?.step) return [...model.data.step]
return []"""
STEPS = """
for (const doc of Bokeh.documents) for (const model of doc._all_models.values())
  if (model.name === "steps") return [model.start, model.end, ...model.bounds]
return []"""


class Writing:
    """A run written step by step."""

    def __init__(self, path):
        tensors = tuple(TensorInfo(f"layers.{i}.weight", (4, 4)) for i in range(3))
        self.writer = RunWriter(path, RunInfo("growing", started=time.time(), tensors=tensors), flush_s=0.1)
        self.step = 0

    def write(self, count, **fields):
        for _ in range(count):
            self.writer.append(
                Reading(self.step, np.array([1.0, 2.0, 2.0]), 3.0, lr=0.1, time_s=0.1 * self.step, **fields)
            )
            self.step += 1
        assert self.writer.flush()


@pytest.fixture
def writing(tmp_path):
    run = Writing(tmp_path / "growing.steady")
    yield run
    run.writer.close()


@pytest.fixture
def page(browser):
    """Wait for something in the page, and see that nothing failed in it."""

    class Page:
        def open(self, port, query=""):
            browser.get(f"http://127.0.0.1:{port}/{query}")

        def run(self, script, *arguments):
            return browser.execute_script(script, *arguments)

        def text(self, where="body"):
            return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", where)

        def wait(self, seen, patience_s=30.0):
            end = time.monotonic() + patience_s
            while True:
                try:
                    if seen():
                        return
                except Exception:  # noqa: BLE001 - the page may be loading
                    pass
                assert time.monotonic() < end, f"never seen; the page says:\n{self.text()[:1500]}"
                time.sleep(0.05)

    yield Page()
    # The page goes before its server does.
    browser.get("about:blank")
    failures = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert not failures


def test_a_page_follows_a_run_from_before_it_is_there(served, page, tmp_path):
    page.open(served(tmp_path))
    page.wait(lambda: "No run in" in page.text())
    run = Writing(tmp_path / "growing.steady")
    run.write(5)
    page.wait(lambda: page.run(STEP) == 4 and page.run(SOURCE, "norm-0")[-1] == 4)
    for _ in range(2):
        run.write(10)
        page.wait(lambda: page.run(STEP) == run.step - 1 and page.run(SOURCE, "norm-0")[-1] == run.step - 1)
    assert page.run(STEPS)[:2] == page.run(STEPS)[2:]  # all steps are seen, the new ones too
    assert "recording" in page.text("#live-state")
    run.write(3, loss=2.0)  # a picture that was not there before
    page.wait(lambda: page.run(SOURCE, "loss")[-1] == run.step - 1)
    run.writer.finding(Finding("loss_spike", "error", 20, ("layers.1.weight",), "the loss <b>went</b> up"))
    page.wait(lambda: "the loss <b>went</b> up" in page.text("#live-findings"))
    run.writer.close()
    page.wait(lambda: "finished" in page.text("#live-state"))


def test_a_reader_keeps_zoom_cards_and_place(served, page, writing, tmp_path):
    writing.writer.finding(Finding("loss_spike", "error", 3, ("layers.1.weight",), "first"))
    writing.write(100, loss=2.0)
    page.open(served(tmp_path))
    page.wait(lambda: page.run(SOURCE, "loss")[-1] == 99 and len(page.run(STEPS)) == 4)
    page.run("document.getElementById('finding-1').open = false")
    page.run("""for (const doc of Bokeh.documents) for (const model of doc._all_models.values())
      if (model.name === "steps") model.setv({start: 20, end: 40})""")
    writing.write(10, loss=2.0)
    page.wait(lambda: page.run(SOURCE, "loss")[-1] == 109)
    assert page.run(STEPS)[:2] == [20, 40]
    assert page.run("return document.getElementById('finding-1').open") is False
    writing.write(10, loss=2.0, skipped=True)  # another picture: the page is loaded again
    page.wait(lambda: "skipped" in page.text("#live-head") and page.run(SOURCE, "loss")[-1] == 119)
    page.wait(lambda: page.run(STEPS)[:2] == [20, 40])
    assert page.run("return document.getElementById('finding-1').open") is False


def test_runs_of_a_folder_are_links(served, page, record, tmp_path):
    record([[1.0]] * 20, name="older", started=1.6e9)
    record([[1.0]] * 30, name="newer", started=1.7e9)
    page.open(served(tmp_path))
    page.wait(lambda: page.run(STEP) == 29)
    page.run("document.querySelector('#live-runs a[href*=older]').click()")
    page.wait(lambda: page.run(STEP) == 19 and page.text("h1") == "older")
    record([[1.0]] * 5, name="newest", started=1.8e9)
    page.wait(lambda: "newest.steady" in page.text("#live-runs"))
    assert page.text("h1") == "older"


MODEL = """
const named = (name, type) => Bokeh.documents.flatMap((doc) => [...doc._all_models.values()])
  .find((model) => model.name === name && (type === undefined || model.type === type))
"""
SLIDER = (
    MODEL
    + """
const slider = named("profiles slider")
if (arguments[0] !== null) slider.value = arguments[0]
return slider.title"""
)
NEWEST = MODEL + "return named(arguments[0], 'ColumnDataSource').data.step.at(-1)"
SHOW = "document.getElementById(arguments[0]).scrollIntoView({behavior: 'instant'})"


def step_of(title):
    return int(title.split()[1].replace(",", ""))


def test_a_reader_keeps_the_step_of_the_snowball(served, page, writing, tmp_path):
    def shown_step():
        return step_of(page.run(SLIDER, None))

    writing.write(40)
    page.open(served(tmp_path / "growing.steady"))
    page.wait(lambda: shown_step() == 39)
    page.run(SHOW, "snowball")
    writing.write(4)
    page.wait(lambda: shown_step() == 43)  # who hasn't chosen goes with the run
    page.run(SLIDER, 11)
    page.wait(lambda: shown_step() < 43)
    chosen = shown_step()
    for _ in range(2):
        writing.write(40)
        page.wait(lambda: page.run(NEWEST, "profiles") == writing.step - 1)
        page.wait(lambda: abs(shown_step() - chosen) <= 2)


ENTRY = (
    MODEL
    + """
const entry = (label) => Bokeh.documents.flatMap((doc) => [...doc._all_models.values()])
  .find((model) => model.type === "LegendItem" && model.label.value === label)"""
)
LEAVE = (
    ENTRY
    + """
named("order").value = "worst"
named("chooser").value = "all"
named("profiles slider").value = 3
entry("loss").renderers.forEach((line) => { line.visible = false })
document.getElementById("heat").scrollIntoView({behavior: "instant"})
return scrollY"""
)
FOUND = (
    ENTRY
    + """
return [named("order").value, named("heat map").tags[0].folded.length, named("rows").data.name.length,
  entry("loss").renderers[0].visible]"""
)


def test_a_page_that_loads_itself_again_is_as_it_was_left(served, page, growing, tmp_path):
    run = growing()
    run.write(7)
    page.open(served(tmp_path))
    page.wait(lambda: page.run(MODEL + "return named('rows').data.name.length") == 6)
    top, left = page.run(LEAVE), ["worst", 3, 3, False]
    page.wait(lambda: page.run(FOUND) == left and step_of(page.run(SLIDER, None)) == 3)
    page.run("window.before = true")
    run.write(1)  # the first that is skipped
    page.wait(lambda: page.run("return window.before === undefined && document.readyState === 'complete'"))
    page.wait(lambda: page.run(FOUND) == left and step_of(page.run(SLIDER, None)) == 3)
    page.wait(lambda: abs(page.run("return scrollY") - top) < 200)


VIEW = MODEL + "return named('attention').data.key"
HIDE = """
Object.defineProperty(document, "hidden", {value: arguments[0], configurable: true})
document.dispatchEvent(new Event("visibilitychange"))"""
COUNT = (
    MODEL
    + """
window.messages = 0
document.addEventListener("steadygrad:live", () => { window.messages += 1 })"""
)


def test_a_hidden_page_rests_and_is_up_to_date_when_it_is_back(served, page, growing, tmp_path):
    run = growing()
    run.write(60)
    page.open(served(tmp_path))
    page.wait(lambda: page.run(NEWEST, "norm-0") == 59)
    page.run(HIDE, True)
    page.wait(lambda: page.run(VIEW) == [])
    time.sleep(1)  # what was on its way
    page.run(COUNT)
    run.write(30)
    time.sleep(2)
    assert page.run("return window.messages") == 0
    assert page.run(NEWEST, "norm-0") == 59
    page.run(HIDE, False)
    page.wait(lambda: page.run(NEWEST, "norm-0") == 89 and page.run(STEP) == 89)


CAPTION = """
const section = document.getElementById(arguments[0]).closest("section")
const [told, spoken] = [section.querySelector(".keys").textContent, section.querySelector(".canvas").ariaLabel]
return spoken.endsWith(told) ? told : "told otherwise"
"""


def test_pictures_come_up_to_date_as_they_come_into_view(served, page, growing, tmp_path):
    run = growing()
    run.write(60)
    page.open(served(tmp_path))
    page.wait(lambda: page.run(NEWEST, "norm-0") == 59 and "course" in page.run(VIEW))
    time.sleep(1)  # the word of it was on its way
    run.write(30)
    page.wait(lambda: page.run(NEWEST, "norm-0") == 89)
    assert page.run(NEWEST, "overhead") == 40
    page.wait(lambda: "near step 89" in page.run(CAPTION, "course"))
    page.run(SHOW, "overhead")
    page.wait(lambda: page.run(NEWEST, "overhead") == 80)
