from __future__ import annotations

from steadygrad.catalog import entry
from steadygrad.records import Finding
from steadygrad.report.cards import cards
from steadygrad.report.chapters import chapters
from steadygrad.report.story import Story
from steadygrad.runfile import open_run


def finding(kind="exploding_gradient", step=5, where=("layers.0.weight",), **changes):
    known = entry(kind)
    return Finding(
        kind, "error", step, where, f"{kind} here", {"factor": 3.0}, known.causes, known.remedies, **changes
    )


def test_terminal_and_page_use_the_same_words(record):
    found = (
        finding(),
        finding(step=500),
        finding("loss_spike", step=9),
        finding("dead_units", step=900, where=("x",)),
    )
    with open_run(record([[1.0]] * 12, findings=found)) as run:
        text = " ".join(str(Story(run)).split())
    for card in cards(chapters(found)):
        words = [
            card.title,
            card.summary,
            card.places,
            *card.causes,
            *(one.action for one in card.remedies),
            card.verify,
        ]
        assert all(" ".join(word.split()) in text for word in words)


def test_causes_and_remedies_of_a_kind_are_told_once():
    told = cards(chapters([finding(), finding(step=500, where=("layers.9.weight",))]))
    assert [card.told_at for card in told] == [None, 1]


def test_numbers_and_names_show_no_control_characters():
    told = cards(chapters([finding(where=("a\x1b[2Jb",))]))
    assert told[0].places == "a\\x1b[2Jb"
