"""A run as its course and words are drawn at one moment, for all tabs that show it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from bokeh.models import Range1d
from bokeh.plotting import figure

from steadygrad.report.live.graft import build_of
from steadygrad.report.page.content import Content, content
from steadygrad.report.page.data.buckets import buckets
from steadygrad.report.page.data.course import MOST_COLUMNS, course
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.course import course_figures
from steadygrad.runfile import Run


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """The course of a run, in no document; tabs take its numbers.

    Attributes:
        version: of the run that was drawn.
        words: what the page says of it.
        figures: the course; none where no step was recorded.
        build: how they are built.
        steps: all steps there are.
        cost_s: seconds of a core it took.
    """

    version: int
    words: Content
    figures: tuple[figure, ...]
    build: tuple[Any, ...]
    steps: Range1d
    cost_s: float


def draw(run: Run, version: int) -> Drawing:
    """Draw a run.

    Args:
        run: the run.
        version: a number that tells this drawing from an earlier one.

    Returns:
        The drawing.
    """
    begun = time.thread_time()
    words, columns = content(run, run.findings), buckets((run,), MOST_COLUMNS)
    steps = look.step_range(columns)
    figures = tuple(course_figures(course(run, columns), words.cards, steps)) if run.steps.size else ()
    return Drawing(version, words, figures, build_of(figures), steps, time.thread_time() - begun)
