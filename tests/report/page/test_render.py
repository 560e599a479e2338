from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from steadygrad.errors import NotARunFile
from steadygrad.records import Finding, Incident, Reading, Remedy, RunInfo, TensorInfo
from steadygrad.report.page import page, render, render_pair
from steadygrad.runfile import RunWriter, open_run

EVIL = "</script><img src=x onerror=\"document.title='owned'\">{{7*7}}<!--\u2028"


class Page(HTMLParser):
    """What a browser would build: elements with their attributes, and the text between."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def loads(self):
        """Addresses that would be asked for."""
        return [
            attrs[name]
            for tag, attrs in self.elements
            for name in ("src", "href", "data", "action")
            if attrs.get(name) and tag != "a" and not attrs[name].startswith("data:")
        ]


@pytest.fixture
def evil_run(record):
    named = tuple(TensorInfo(f"{EVIL}.{i}.{EVIL}", (3, 3)) for i in range(5))
    found = [
        Finding("exploding_gradient", "error", 7, (named[0].name,), EVIL, {EVIL: 1.0}, (EVIL,), (Remedy(EVIL, EVIL),), EVIL),
        Finding(EVIL, "warning", 9, (EVIL,), EVIL),
    ]  # fmt: skip
    info = {"tensors": named, "policy": EVIL, "model": EVIL, "versions": {EVIL: EVIL}, "command": (EVIL,)}
    norms = np.ones((20, 5))
    norms[7, 2] = np.nan
    changes = {step: {"loss": 1.0} for step in range(20)}
    path = record(norms, changes, found, [Incident(7, EVIL, EVIL, (EVIL,))], **info)
    with open_run(path) as run:
        yield run


def test_hostile_names_are_text_and_nothing_else(evil_run):
    for text in (render(evil_run), render_pair(evil_run, evil_run)):
        made = Page(text)
        assert not [tag for tag, _ in made.elements if tag in {"img", "iframe", "object", "link"}][1:]
        assert not [attrs for _, attrs in made.elements if any(name.startswith("on") for name in attrs)]
        assert text.count("</script>") == text.count("<script")
        assert "49" not in re.findall(r"}}|49<!--", text)


def test_the_page_asks_for_nothing(evil_run):
    assert Page(render(evil_run)).loads() == []


def test_verdict_cards_and_pictures_come_in_order(record):
    found = [Finding("exploding_gradient", "error", 5, ("layers.0.weight",), "It explodes.")]
    changes = {step: {"loss": 1.0} for step in range(12)}
    with open_run(record(np.ones((12, 4)), changes, found)) as run:
        text = render(run)
    marks = [
        'id="verdict"',
        'id="finding-1"',
        'id="course"',
        'id="heat"',
        'id="snowball"',
        'id="environment"',
    ]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)


def test_every_picture_has_a_text_and_can_be_reached_by_keyboard(wild_run):
    pictures = [attrs for _, attrs in Page(render(wild_run(100))).elements if "data-keys" in attrs]
    assert len(pictures) >= 4
    # Nobody hears what is inside an image: a picture with controls is none.
    assert [attrs["role"] for attrs in pictures][:3] == ["img", "group", "group"]
    assert all(len(attrs["aria-label"]) > 40 and attrs["tabindex"] == "0" for attrs in pictures)


def test_headings_leave_out_no_level(evil_run):
    for text in (render(evil_run), render_pair(evil_run, evil_run)):
        levels = [int(tag[1]) for tag, _ in Page(text).elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize(
    ("norms", "says"),
    [
        (np.zeros((0, 3)), "Empty: no step was recorded."),
        (np.full((30, 4), np.nan), "the last 30 steps are all non-finite"),
        (np.full((30, 4), np.inf), "Non-finite gradient (step 0)"),
        (np.zeros((30, 4)), "Healthy: 30 steps"),
        (np.ones((1, 1)), "Healthy: 1 step"),
        (np.ones((5, 0)), "Healthy: 5 steps"),
    ],
)
def test_runs_with_little_to_show(record, norms, says):
    changes = {step: {"loss": float(row.sum())} for step, row in enumerate(norms)}
    with open_run(record(norms, changes)) as run:
        assert says in " ".join(Page(render(run)).text)
        assert says in " ".join(Page(render_pair(run, run)).text)


def test_wild_runs_of_several_optimizers_have_a_page(wild_run):
    run = wild_run(300, optimizers=3)
    assert "Every tensor, every step" in render(run)
    assert "B relative to A" in render_pair(run, wild_run(300, seed=1, optimizers=2))


def test_steps_may_be_any_numbers(tmp_path):
    writer = RunWriter(tmp_path / "steps.steady", RunInfo("steps", tensors=(TensorInfo("w", (2, 2)),)))
    for step in (0, 5, 2**62, 3, -7, -(2**61), 10**9):
        writer.append(Reading(step, np.ones(1), 1.0, loss=1.0))
    writer.close()
    with open_run(writer.path) as run:
        assert "Healthy: 7 steps" in render(run)


def test_a_run_that_is_being_written(tmp_path):
    info = RunInfo("live", tensors=tuple(TensorInfo(f"w.{i}", (2, 2)) for i in range(3)))
    with RunWriter(tmp_path / "live.steady", info) as writer:
        for step in range(100):
            writer.append(Reading(step, np.ones(3), 1.7))
        assert writer.flush()
        with open_run(writer.path) as run:
            text = render(run)
            words, _ = page(run)
    assert "still being written, or cut off" in text
    assert dict(words["facts"])["steps"].startswith("100 so far, in ")


def test_a_part_of_a_file_is_refused(record, tmp_path):
    whole = record(np.ones((2000, 4))).read_bytes()
    part = tmp_path / "part.steady"
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NotARunFile):
        render(open_run(part))


@pytest.mark.slow
def test_ten_thousand_tensors_stay_below_six_megabytes(tmp_path):
    parts = ("attn.qkv.weight", "attn.out.weight", "mlp.up.weight", "mlp.down.bias")
    tensors = tuple(TensorInfo(f"blocks.{i}.{part}", (4, 4)) for i in range(2500) for part in parts)
    with RunWriter(tmp_path / "many.steady", RunInfo("many", tensors=tensors)) as writer:
        for step in range(80):
            writer.append(Reading(step, np.linspace(1.0, 2.0, 10_000), 150.0))
    with open_run(writer.path) as run:
        assert len(render(run)) < 6e6


def test_words_and_pictures_are_there_before_the_html(record):
    with open_run(record(np.ones((12, 4)))) as run:
        words, pictures = page(run)
    assert words["state"] == "healthy"
    assert [picture.key for picture in pictures] == ["course", "heat", "snowball"]
    assert all(picture.words and picture.hint for picture in pictures)
