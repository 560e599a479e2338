"""Which pictures a page has, in which order, with what is said beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import Column, UIElement

from steadygrad.records import Finding
from steadygrad.report.cards import Card
from steadygrad.report.page.data.buckets import Buckets, buckets
from steadygrad.report.page.data.course import MOST_COLUMNS, course
from steadygrad.report.page.data.depth import snowball
from steadygrad.report.page.data.health import health, mean_overhead, spent
from steadygrad.report.page.data.passages import passages
from steadygrad.report.page.data.raster import Raster, RasterMaker
from steadygrad.report.page.data.updates import Updates, UpdatesMaker
from steadygrad.report.page.data.words import (
    course_words,
    health_words,
    overhead_words,
    raster_words,
    snowball_words,
    updates_words,
)
from steadygrad.report.page.figures import look
from steadygrad.report.page.figures.course import course_figures
from steadygrad.report.page.figures.fitted_time import fitted_findings, fitted_time_figure
from steadygrad.report.page.figures.health import health_figures, overhead_figure
from steadygrad.report.page.figures.heat import heat_map
from steadygrad.report.page.figures.skew import skew_figure
from steadygrad.report.page.figures.snowball import snowball_figure
from steadygrad.report.page.figures.through_time import through_time_figure, told_through_time
from steadygrad.report.page.figures.updates import updates_figure
from steadygrad.report.ranks import skew, told
from steadygrad.report.wording import plural, visible
from steadygrad.runfile import Run


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """One picture with its place on the page.

    Attributes:
        key: its anchor.
        title: its heading.
        hint: how to read it, one or two sentences.
        words: the same picture in words.
        models: what is drawn, top to bottom; each has a name.
    """

    key: str
    title: str
    hint: str
    words: str
    models: tuple[UIElement, ...]

    @property
    def roots(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(str(model.name) for model in self.models)

    @property
    def controlled(self) -> bool:
        """Whether there is something to choose: what is inside an image, nobody hears."""
        return any(isinstance(model, Column) for model in self.models)


def sections(
    run: Run, cards: Sequence[Card], findings: Sequence[Finding], ranks: Sequence[Run] = ()
) -> list[Section]:
    """Draw all pictures of a run that its file has numbers for.

    Args:
        run: the run.
        cards: what is told, for the marks on the course.
        findings: the same, for steps to begin with.
        ranks: the run files of all ranks, this one among them, where there are several.

    Returns:
        The sections, top to bottom; their pictures share one range of steps.
    """
    if not run.steps.size:
        return []
    columns = buckets((run,), MOST_COLUMNS)
    steps = look.step_range(columns)
    picture, moved = _swept(run)
    found = [_course(run, cards, steps, columns), *_ranks(ranks, steps)]
    if run.info.tensors:
        found += _tensors(picture, steps, findings)
    found += _through_time(run, findings)
    if moved is not None:
        figure = updates_figure(moved, steps)
        found.append(Section("updates", "How far the steps go", _UPDATES, updates_words(moved), (figure,)))
    return found + _inside(run, steps) + _overhead(run, steps)


def _swept(run: Run) -> tuple[Raster, Updates | None]:
    """What needs every tensor's numbers, in one pass over the file: unpacking them is most of the work."""
    cells, moved = RasterMaker(run), UpdatesMaker(run)
    for block in run.blocks():
        cells.take(block)
        moved.take(block)
    return cells.done(), moved.done()


def _course(run: Run, cards: Sequence[Card], steps: Any, columns: Buckets) -> Section:
    data = course(run, columns)
    each = plural(-(-int(columns.stop - columns.start) // columns.count), "step")
    hint = _COURSE + (_MARKED if cards else "")
    hint = f"A column stands for {each} {_ENVELOPE} {hint}" if columns.width > 1 else hint
    figures = course_figures(data, cards, steps)
    return Section("course", "The course of the run", hint, course_words(data), tuple(figures))


def _ranks(runs: Sequence[Run], steps: Any) -> list[Section]:
    found = skew(runs) if runs else None
    if found is None:
        return []
    words = " ".join(told(runs, found))
    hint = f"Shown: {found.what}. {_RANKS}"
    return [Section("ranks", "The ranks beside each other", hint, words, (skew_figure(found, steps),))]


def _tensors(picture: Raster, steps: Any, findings: Sequence[Finding]) -> list[Section]:
    drawn = heat_map(picture, steps)
    drawn.name = "heat section"
    found = [Section("heat", "Every tensor, every step", _HEAT, raster_words(picture), (drawn,))]
    ball = snowball(picture, findings)
    if ball is not None:
        layers = snowball_figure(ball)
        layers.name = "snowball section"
        found.append(Section("snowball", "The snowball", _SNOWBALL, snowball_words(ball), (layers,)))
    return found


def _through_time(run: Run, findings: Sequence[Finding]) -> list[Section]:
    """Norms where the run file has them; a file of an earlier version has the fitted growth of findings alone."""
    heard = passages(run.looks, findings)
    if heard is not None:
        drawn = through_time_figure(heard)
        drawn.name = "through time section"
        words = told_through_time(heard.looks[heard.shown])
        return [Section("through-time", "The snowball through time", _THROUGH_TIME, words, (drawn,))]
    fitted = fitted_time_figure(findings)
    if fitted is None:
        return []
    words = " ".join(visible(one.summary) for one in fitted_findings(findings))
    return [Section("through-time", "Through time", _FITTED, words, (fitted,))]


def _inside(run: Run, steps: Any) -> list[Section]:
    data = health(run)
    if data is None:
        return []
    figures = tuple(health_figures(data, steps))
    return [Section("health", "Inside the model", _HEALTH, health_words(data), figures)]


def _overhead(run: Run, steps: Any) -> list[Section]:
    share = spent(run)
    if share is None:
        return []
    figure = overhead_figure(share, steps)
    words = overhead_words(share, mean_overhead(run))
    return [Section("overhead", "What steadygrad cost", _OVERHEAD, words, (figure,))]


_ENVELOPE = "and reaches from its smallest to its largest value, so single spikes stay."
_COURSE = (
    "Drag over a picture to zoom into steps, double-click on it or press 0 for all of them; with the keyboard, + and - "
    "zoom, arrows move. All pictures over steps zoom together."
)
_MARKED = " The findings are marked; a mark opens its card, and Escape comes back."
_RANKS = (
    "The band reaches from the smallest to the largest of the ranks, the dark line is their median; those that stray the farthest "
    "from it have a line of their own. One rank apart from the others is its data or its device; all of them are the training."
)
_HEAT = (
    "One row a tensor, the input at the top. Bright is large, red is non-finite, grey has no gradient. A cell shows the largest "
    "norm of its steps. Click on a module beside the picture to fold it into one row."
)
_SNOWBALL = (
    "The gradient is made at the loss (right) and travels back to the input (left). A line that rises to the left is a gradient "
    "that explodes on its way; one that falls, a gradient that vanishes."
)
_THROUGH_TIME = (
    "In a recurrent network the gradient is made at the last time step the loss reads (right) and travels back to the first (left). "
    "A line that rises to the left explodes on its way; below the dashed line float32 hears nothing of a time step."
)
_FITTED = (
    "In a recurrent network the gradient passes through every time step. These lines are the growth that was fitted when "
    "the module was listened to; below the dashed line float32 hears nothing of a time step."
)
_HEALTH = (
    "Measured on the steps that were listened to, of what is fed to each weighted layer. Dead units are 0 for every sample; saturated "
    "values lie at the ends of tanh or sigmoid, where no gradient passes."
)
_OVERHEAD = (
    "Share of the training's time that its own thread spent in steadygrad: hooks, judging, probes and snapshots. What runs beside it "
    "(an accelerator's kernels, the thread that writes this file) isn't in it."
)
_UPDATES = (
    "Length of the change over length of the weights, on the steps that measured it. A network that learns is "
    "usually in the green band, around 1e-3."
)
