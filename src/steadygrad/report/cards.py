"""The words of one chapter, the same in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steadygrad.catalog import CATALOG
from steadygrad.records import Remedy, Severity
from steadygrad.report.chapters import Chapter
from steadygrad.report.verdict import title
from steadygrad.report.wording import layer, number, plural, some, visible

MOST_NAMES = 4
MOST_STEPS = 5


@dataclass(frozen=True, slots=True)
class Card:
    """What there is to say about one root cause; nothing is escaped for any medium but control characters.

    Attributes:
        place: its number in the story, from 1.
        severity: the worst of the chapter.
        kind: as in the catalog.
        title: what a person calls it.
        step: the step at which it began.
        optimizer: index of the optimizer.
        summary: one sentence.
        where: qualified names, the most telling first, all of them.
        numbers: the evidence, each a name and a number as it is written.
        causes: the likeliest first.
        remedies: the best first.
        verify: how to see that it is cured; empty for a kind the catalog doesn't know.
        reference: what to read.
        told_at: number of the card that has told the same causes and remedies; None where this one does.
        again: how often it came back, and when; empty where it didn't.
        then: what followed from it, one line each.
    """

    place: int
    severity: Severity
    kind: str
    title: str
    step: int
    optimizer: int
    summary: str
    where: tuple[str, ...]
    numbers: tuple[tuple[str, str], ...]
    causes: tuple[str, ...]
    remedies: tuple[Remedy, ...]
    verify: str
    reference: str
    told_at: int | None
    again: str
    then: tuple[str, ...]

    @property
    def places(self) -> str:
        """The first few names, and how many more there are."""
        return some([layer(name) for name in self.where], MOST_NAMES)


def cards(chapters: Sequence[Chapter]) -> tuple[Card, ...]:
    """Write every chapter down; causes and remedies of a kind are told once.

    Args:
        chapters: the findings by root cause.

    Returns:
        One card a chapter.
    """
    told: dict[str, int] = {}
    found = []
    for place, chapter in enumerate(chapters, 1):
        found.append(_card(chapter, place, told.get(chapter.root.kind)))
        told.setdefault(chapter.root.kind, place)
    return tuple(found)


def _card(chapter: Chapter, place: int, told_at: int | None) -> Card:
    root = chapter.root
    known = CATALOG.get(root.kind)
    return Card(
        place,
        chapter.severity,
        root.kind,
        title(root.kind),
        root.step,
        root.optimizer,
        root.summary,
        root.where,
        tuple((visible(name), number(value)) for name, value in root.evidence.items()),
        root.causes,
        root.remedies,
        known.verify if known else "",
        root.reference,
        told_at,
        _again([finding.step for finding in chapter.repeats]),
        tuple(f"step {one.step:,}, {visible(one.kind)}: {one.summary}" for one in chapter.consequences),
    )


def _again(steps: Sequence[int]) -> str:
    if not steps:
        return ""
    first = ", ".join(f"{step:,}" for step in steps[:MOST_STEPS])
    rest = len(steps) - MOST_STEPS
    return f"{plural(len(steps), 'time')}, at step {first}" + (f" and {rest:,} more" if rest > 0 else "")
