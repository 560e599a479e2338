"""A run at one moment as its words and its course say it, for all tabs that show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steadygrad.report.live.fragments import run_fragments
from steadygrad.report.page.content import Content, content
from steadygrad.report.page.data.buckets import Buckets, buckets
from steadygrad.report.page.data.course import MOST_COLUMNS
from steadygrad.report.page.sections import Draft, course_draft
from steadygrad.runfile import Run


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """What changes with every step.

    Attributes:
        version: of the run that was read.
        words: what the page says of it.
        fragments: the same as HTML, by the key of its place.
        course: its course; None where no step was recorded.
        columns: those of the course, which hold all steps there are.
    """

    version: int
    words: Content
    fragments: Mapping[str, str]
    course: Draft | None
    columns: Buckets


def draw(run: Run, version: int) -> Drawing:
    """Put a run into words and numbers.

    Args:
        run: the run.
        version: a number that tells this drawing from an earlier one.

    Returns:
        The drawing.
    """
    words, columns = content(run, run.findings), buckets((run,), MOST_COLUMNS)
    course = course_draft(run, words.cards, columns) if run.steps.size else None
    fragments = run_fragments(words)
    return Drawing(version, words, fragments, course, columns)
