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
from steadygrad.report.page.figures.course import course_sketch
from steadygrad.report.page.figures.fitted_time import fitted_findings, fitted_time_sketch
from steadygrad.report.page.figures.health import health_sketch, overhead_sketch
from steadygrad.report.page.figures.heat import heat_sketch
from steadygrad.report.page.figures.sketch import Sketch
from steadygrad.report.page.figures.skew import skew_sketch
from steadygrad.report.page.figures.snowball import snowball_sketch
from steadygrad.report.page.figures.through_time import through_time_sketch, told_through_time
from steadygrad.report.page.figures.updates import updates_sketch
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


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A section of which nothing is drawn yet; the attributes are those of `Section`, but for ``sketch``.

    Attributes:
        key: its anchor.
        title: its heading.
        hint: how to read it.
        words: the same picture in words.
        sketch: its picture.
    """

    key: str
    title: str
    hint: str
    words: str
    sketch: Sketch

    def drawn(self, steps: Any) -> Section:
        """Draw it, over the range of steps that pictures share."""
        models = self.sketch.draw(steps)
        for model in models:
            model.name = model.name or f"{self.key} section"
        return Section(self.key, self.title, self.hint, self.words, models)


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
    drafts = [course_draft(run, cards, columns), *_ranks(ranks), *tensor_drafts(run, findings)]
    return [draft.drawn(steps) for draft in drafts]


def course_draft(run: Run, cards: Sequence[Card], columns: Buckets) -> Draft:
    """The course of a run.

    Args:
        run: the run; it has steps.
        cards: what is told, to be marked.
        columns: those of the picture.

    Returns:
        The section.
    """
    data = course(run, columns)
    each = plural(-(-int(columns.stop - columns.start) // columns.count), "step")
    hint = _COURSE + (_MARKED if cards else "")
    hint = f"A column stands for {each} {_ENVELOPE} {hint}" if columns.width > 1 else hint
    return Draft("course", "The course of the run", hint, course_words(data), course_sketch(data, cards))


def tensor_drafts(run: Run, findings: Sequence[Finding]) -> list[Draft]:
    """What needs more of a run than its course: the numbers of every tensor, looks, what steadygrad cost.

    Args:
        run: the run; it has steps.
        findings: for steps to begin with.

    Returns:
        The sections, top to bottom.
    """
    picture, moved = _swept(run)
    found = _tensors(picture, findings) if run.info.tensors else []
    found += _through_time(run, findings)
    if moved is not None:
        title = "How far the steps go"
        found.append(Draft("updates", title, _UPDATES, updates_words(moved), updates_sketch(moved)))
    return found + _inside(run) + _overhead(run)


def _swept(run: Run) -> tuple[Raster, Updates | None]:
    """What needs every tensor's numbers, in one pass over the file: unpacking them is most of the work."""
    cells, moved = RasterMaker(run), UpdatesMaker(run)
    for block in run.blocks():
        cells.take(block)
        moved.take(block)
    return cells.done(), moved.done()


def _ranks(runs: Sequence[Run]) -> list[Draft]:
    found = skew(runs) if runs else None
    if found is None:
        return []
    words = " ".join(told(runs, found))
    hint = f"Shown: {found.what}. {_RANKS}"
    return [Draft("ranks", "The ranks beside each other", hint, words, skew_sketch(found))]


def _tensors(picture: Raster, findings: Sequence[Finding]) -> list[Draft]:
    title = "Every tensor, every step"
    found = [Draft("heat", title, _HEAT, raster_words(picture), heat_sketch(picture))]
    ball = snowball(picture, findings)
    if ball is not None:
        found.append(
            Draft("snowball", "The snowball", _SNOWBALL, snowball_words(ball), snowball_sketch(ball))
        )
    return found


def _through_time(run: Run, findings: Sequence[Finding]) -> list[Draft]:
    """Norms where the run file has them; a file of an earlier version has the fitted growth of findings alone."""
    heard = passages(run.looks, findings)
    if heard is not None:
        words, title = told_through_time(heard.looks[heard.shown]), "The snowball through time"
        return [Draft("through-time", title, _THROUGH_TIME, words, through_time_sketch(heard))]
    fitted = fitted_time_sketch(findings)
    if fitted is None:
        return []
    words = " ".join(visible(one.summary) for one in fitted_findings(findings))
    return [Draft("through-time", "Through time", _FITTED, words, fitted)]


def _inside(run: Run) -> list[Draft]:
    data = health(run)
    if data is None:
        return []
    return [Draft("health", "Inside the model", _HEALTH, health_words(data), health_sketch(data))]


def _overhead(run: Run) -> list[Draft]:
    share = spent(run)
    if share is None:
        return []
    words = overhead_words(share, mean_overhead(run))
    return [Draft("overhead", "What steadygrad cost", _OVERHEAD, words, overhead_sketch(share))]


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
