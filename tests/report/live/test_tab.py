"""A tab without a browser: what it would be sent."""

from __future__ import annotations

import pytest
from bokeh.document import Document

from steadygrad.report.live import hub, pace, tensors
from steadygrad.report.live.hub import Hub
from steadygrad.report.live.shown import same
from steadygrad.report.live.tab import Tab
from steadygrad.runfile import open_run


class Opened:
    """A tab, and what a browser would hold."""

    def __init__(self, place):
        self.document = Document()
        self.tab = Tab(self.document, Hub(place, lambda work: work()), None)

    def model(self, name):
        (found,) = self.document.select({"name": name})
        return found

    def data(self, name):
        (found,) = [one for one in self.document.select({"name": name}) if "data" in one.properties()]
        return found.data

    def look_at(self, *keys):
        """What the browser tells when its reader scrolls, or hides the page."""
        self.model("attention").data = {"key": list(keys)}

    def sent(self):
        """Parts of the page that the newest message renews."""
        return {*self.data("words")["key"]} - {"at"}


@pytest.fixture(autouse=True)
def _always_due(monkeypatch):
    monkeypatch.setattr(hub, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(hub, "DRAW_EVERY_S", 0.0)
    monkeypatch.setattr(pace, "PATIENCE_S", 0.0)
    monkeypatch.setattr(tensors, "LEAST_S", 0.0)
    monkeypatch.setattr(tensors, "SHARE", 0.0)


@pytest.fixture
def run(growing):
    begun = growing()
    begun.write(60)
    return begun


def ticked(opened):
    # the second shows what the first had prepared
    opened.tab.tick()
    opened.tab.tick()


def test_a_tab_holds_as_many_models_after_fifty_drawings(run, tmp_path):
    opened = Opened(tmp_path)
    before = {model.id for model in opened.document.models}
    for _ in range(50):
        run.write(2)
        ticked(opened)
    assert {model.id for model in opened.document.models} == before
    assert opened.data("norm-0")["step"][-1] == opened.data("updates")["step"][-1] + 9 == run.step - 1
    assert opened.data("profiles")["step"][-1] == run.step - 1
    assert opened.model("steps").bounds[1] > run.step - 1


def test_a_tab_shows_what_one_opened_now_would(run, tmp_path):
    old = Opened(tmp_path)
    run.write(640)
    ticked(old)
    new = Opened(tmp_path)
    for name in ("norm-0", "cap-0", "lr-0", "loss", "events", "cells", "tensors", "usual", "profiles", "passages",
                 "updates", "looks", "overhead"):  # fmt: skip
        assert same(dict(old.data(name)), dict(new.data(name))), name
    ranges = dict.fromkeys(("steps", "norms", "time norms"), ("start", "end"))
    scales = {"colors": ("low", "high"), "decades": ("ticks",), "color bar": ("major_label_overrides",)}
    for name, keys in {**ranges, **scales}.items():
        for key in keys:
            assert getattr(old.model(name), key) == getattr(new.model(name), key), (name, key)


def test_nothing_is_read_for_a_hidden_page_and_all_at_once_when_it_is_back(run, tmp_path, monkeypatch):
    opened = Opened(tmp_path)
    opened.look_at()
    message = opened.data("words")
    run.write(10)
    with monkeypatch.context() as patched:
        patched.setattr(hub.Follower, "look", lambda _: pytest.fail("a hidden page's run was read"))
        opened.tab.tick()
    assert opened.data("words") is message
    assert opened.data("norm-0")["step"][-1] == 59
    opened.look_at("page", "course")
    assert opened.data("norm-0")["step"][-1] == 69
    assert "state" in opened.sent()


def test_pictures_out_of_view_wait(run, tmp_path):
    opened = Opened(tmp_path)
    opened.look_at("page", "course")
    run.write(10)
    ticked(opened)
    assert opened.data("norm-0")["step"][-1] == 69
    assert opened.data("profiles")["step"][-1] == 59
    assert {"words:course", "hint:course"} <= opened.sent()
    assert "words:heat" not in opened.sent()
    opened.look_at("page", "snowball", "heat")
    run.write(10)
    ticked(opened)
    assert opened.data("profiles")["step"][-1] == 79
    assert opened.data("norm-0")["step"][-1] == 69


def test_a_browser_that_has_not_painted_yet_is_sent_words_alone(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "PATIENCE_S", 1e6)
    opened = Opened(tmp_path)
    for _ in range(2):
        run.write(10)
        opened.tab.tick()
    assert opened.data("norm-0")["step"][-1] == 69
    assert "79" in dict(zip(*opened.data("words").values(), strict=True))["state"]
    monkeypatch.setattr(pace, "LEAST_S", 0.0)
    opened.model("attention").tags = ["1", 0.0]
    opened.tab.tick()
    assert opened.data("norm-0")["step"][-1] == 79


def test_words_are_sent_when_they_change(run, tmp_path, monkeypatch):
    opened = Opened(tmp_path)
    monkeypatch.setattr("steadygrad.report.live.tab.time.time", lambda: 1.7e9)
    monkeypatch.setattr("steadygrad.report.live.telling.ALIVE_EVERY_S", 1e6)
    opened.tab.tick()
    for _ in range(20):
        message = opened.data("words")
        opened.tab.tick()
        assert opened.data("words") is message
    run.write(1)
    opened.tab.tick()
    assert {"state", "head"} <= opened.sent()


def test_a_page_hears_that_the_server_is_there(run, tmp_path, monkeypatch):
    opened = Opened(tmp_path)
    opened.tab.tick()
    monkeypatch.setattr("steadygrad.report.live.telling.ALIVE_EVERY_S", 0.0)
    monkeypatch.setattr("steadygrad.report.live.tab.time.time", lambda: 1.7e9)
    for _ in range(3):
        opened.tab.tick()
        message = opened.data("words")
        opened.tab.tick()
        assert opened.data("words") != message


def test_other_pictures_ask_for_the_page_again(growing, tmp_path):
    run = growing()
    run.write(5)
    opened = Opened(tmp_path)
    run.write(5)  # the first step that was skipped
    opened.tab.tick()
    assert "again" in opened.sent()


def test_a_page_that_opens_takes_what_was_prepared(run, tmp_path, monkeypatch):
    shared, made = Hub(tmp_path, lambda work: work()), []
    prepare = tensors.tensor_drafts
    monkeypatch.setattr(tensors, "tensor_drafts", lambda *args: made.append(1) or prepare(*args))
    for _ in range(3):
        Tab(Document(), shared, None)
    assert made == [1]


def test_the_browser_keeps_what_its_scripts_draw_to_itself(run, tmp_path):
    opened = Opened(tmp_path)
    synced = {model.name for model in opened.document.models if model.syncable}
    assert synced == {"steps", "attention"}


def test_a_run_that_ends_is_shown_to_its_end(run, tmp_path):
    opened = Opened(tmp_path)
    run.write(15)
    run.writer.close()
    ticked(opened)
    with open_run(tmp_path / "growing.steady") as ended:
        assert ended.finished
        assert opened.data("norm-0")["step"][-1] == ended.steps[-1]
