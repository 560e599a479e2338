"""A recorded run as a text for a person: the verdict first, then what it rests on."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from io import StringIO
from math import isfinite, isnan

import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from steadygrad.records import Finding
from steadygrad.report.cards import cards
from steadygrad.report.chapters import Chapter, chapters
from steadygrad.report.facts import gather
from steadygrad.report.findings import STYLES, tell
from steadygrad.report.layout import Code, Heading, Paragraph
from steadygrad.report.medians import median_norms
from steadygrad.report.sparkline import Mark, Sparkline
from steadygrad.report.verdict import Verdict, told_loss, verdict
from steadygrad.report.wording import duration, moment, number, plural, share, some, visible
from steadygrad.runfile import Run
from steadygrad.runfile.own_clip import own_clip

WIDTH = 100
MOST_CHAPTERS = 12
MOST_INCIDENTS = 6
MOST_TENSORS = 3
MOST_OPTIMIZERS = 4


class Story:
    """The story of a run.

    It is a rich renderable, and ``str()`` gives it as plain text, 100 columns wide.

    Args:
        run: the run; it is read when the story is built, so it may be closed afterwards.
        findings: what to tell instead of the findings that were recorded; see `judge`.

    Attributes:
        verdict: the run in one sentence.
        chapters: the findings, one root cause each.

    Example:
        >>> print(Story(steadygrad.open_run("runs/a.steady")))  # doctest: +SKIP
    """

    def __init__(self, run: Run, findings: Sequence[Finding] | None = None) -> None:
        self.chapters = chapters(run.findings if findings is None else findings)
        self._facts = gather(run)
        self.verdict: Verdict = verdict(self._facts, self.chapters, run.incidents, run)
        self._lines = list(self._tell(run))

    def __str__(self) -> str:
        """The story as plain text."""
        file = StringIO()
        Console(file=file, width=WIDTH, color_system=None, force_terminal=False).print(self, crop=False)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the story, section by section."""
        del console, options
        yield from self._lines

    def _tell(self, run: Run) -> Iterator[RenderableType]:
        yield from _opening(run, self.verdict)
        yield from self._measured(run)
        yield from _course(run)
        yield from self._findings()
        yield from _incidents(run)
        yield from _tensors(run)
        yield from _next(run, self.verdict, self.chapters)

    def _measured(self, run: Run) -> Iterator[RenderableType]:
        facts, tensors = self._facts, run.info.tensors
        yield Heading("Measured")
        size = sum(tensor.numel for tensor in tensors)
        ended = "" if run.finished else "; still being written, or cut off"
        what = "optimizer step" if run.info.optimizers else "step"
        steps = f"{plural(facts.steps, what)} in {duration(facts.seconds)}{ended}"
        yield Paragraph(steps, "steps")
        yield Paragraph(f"{plural(len(tensors), 'tensor')}, {plural(size, 'parameter')}", "model")
        counts = (("scaled down", facts.clipped), ("skipped", facts.skipped), ("overflow", facts.overflowed))
        acted = [f"{count:,} {what} ({share(count, facts.steps)})" for what, count in counts if count]
        if acted:
            yield Paragraph(("at least " if facts.at_least else "") + ", ".join(acted), "acted on")
        if run.loss_logged.any():
            yield Paragraph(told_loss(facts, "->"), "loss")
        yield from _own_clip(run)

    def _findings(self) -> Iterator[RenderableType]:
        if self.chapters:
            yield Heading("Findings")
        for card in cards(self.chapters[:MOST_CHAPTERS]):
            yield from tell(card)
        if len(self.chapters) > MOST_CHAPTERS:
            rest = Counter(chapter.root.kind for chapter in self.chapters[MOST_CHAPTERS:])
            yield Text()
            yield Paragraph(", ".join(f"{count:,} {visible(kind)}" for kind, count in rest.items()), "and")


def _opening(run: Run, told: Verdict) -> Iterator[RenderableType]:
    info = run.info
    how = f"{info.mode}, policy {info.policy}" if info.policy else info.mode
    rank = f"rank {info.rank} of {info.world_size}" if info.world_size > 1 else ""
    facts = (how, info.model, ", ".join(info.optimizers), rank, moment(info.started))
    line = Text(visible(info.name), style="bold")
    yield line.append("  " + ", ".join(visible(fact) for fact in facts if fact), style="not bold dim")
    yield Text()
    yield Text(told.sentence, style=STYLES.get(told.state, "bold"))


def _own_clip(run: Run) -> Iterator[RenderableType]:
    """The script's own ``clip_grad_norm_``: how often it acted, and the norm on both sides of it."""
    clip = own_clip(run)
    if clip is None or not len(clip.steps):
        return
    sides = [norms[np.isfinite(norms)] for norms in (clip.before, clip.after)]
    medians = [number(float(np.median(norms))) if norms.size else "never finite" for norms in sides]
    acted = f"at {clip.clipped:,} of {plural(len(clip.steps), 'step')}"
    yield Paragraph(f"{acted}; median norm {medians[0]} before, {medians[1]} after", "own clip")


def _course(run: Run) -> Iterator[RenderableType]:
    """One picture of the total norm for each optimizer."""
    numbers = np.unique(run.optimizer)[:MOST_OPTIMIZERS]
    for i in numbers:
        rows = run.optimizer == i
        which = f", optimizer {i}" if len(numbers) > 1 else ""
        yield Heading(f"Total gradient norm by step, log scale{which}")
        steps, norms = run.steps[rows], run.total_norm[rows]
        marks = {
            "!": Mark(run.nonfinite_count[rows] > 0, "red"),
            "s": Mark(run.skipped[rows], "yellow"),
            "c": Mark(run.clip_coef[rows] < 1.0, "cyan"),
        }
        peaks = run.total_norm_max[rows]
        yield Sparkline(peaks, run.resolution[rows], marks, f"step {steps[0]:,}", f"{steps[-1]:,}")
        meaning = {"!": "! non-finite", "s": "s skipped", "c": "c scaled down"}
        used = [meaning[letter] for letter, mark in marks.items() if mark.rows.any()]
        usual = norms[np.isfinite(norms)]
        notes = [f"median {number(float(np.median(usual)))}"] if usual.size else ["never finite"]
        yield Paragraph(", ".join([*notes, *used]), label_width=0)


def _incidents(run: Run) -> Iterator[RenderableType]:
    if not run.incidents:
        return
    counts = Counter(incident.action for incident in run.incidents)
    yield Heading("What steadygrad did")
    yield Paragraph(", ".join(f"{count:,} {visible(action)}" for action, count in counts.items()))
    for incident in run.incidents[:MOST_INCIDENTS]:
        place = f" ({some(incident.where)})" if incident.where else ""
        yield Paragraph(
            f"{incident.action}: {incident.reason}{place}", f"step {incident.step:,}", label_width=14
        )
    rest = len(run.incidents) - MOST_INCIDENTS
    if rest > 0:
        yield Paragraph(f"and {rest:,} more", label_width=14)


def _tensors(run: Run) -> Iterator[RenderableType]:
    medians = median_norms(run)
    order = [i for i in np.argsort(-medians) if isfinite(medians[i])]
    unmoved = [tensor.name for tensor, norm in zip(run.info.tensors, medians, strict=True) if isnan(norm)]
    if len(run.steps):
        yield Heading("Median gradient norm")
    few = len(order) <= 2 * MOST_TENSORS
    parts = {"": order} if few else {"largest": order[:MOST_TENSORS], "smallest": order[-MOST_TENSORS:]}
    for part, members in parts.items():
        for place, i in enumerate(members):
            tensor = run.info.tensors[i]
            shape = "x".join(map(str, tensor.shape)) or "scalar"
            label = f"{part if place == 0 else '':<{0 if few else 10}}{number(float(medians[i])):>9}  "
            yield Paragraph(f"{tensor.name}  {shape}", label, label_width=len(label))
    if unmoved and len(run.steps):
        yield Paragraph(f"{plural(len(unmoved), 'tensor')} never above zero: {some(unmoved)}", label_width=0)


def _next(run: Run, told: Verdict, found: Sequence[Chapter]) -> Iterator[RenderableType]:
    yield Heading("Next")
    if told.state in {"error", "warning"} and run.info.mode == "watch":
        yield Paragraph("let the guard act on it:", label_width=0)
        yield Code("guard = steadygrad.guard(model, optimizer)", indent=4)
    names = {tensor.name for tensor in run.info.tensors}
    culprit = next((name for chapter in found for name in chapter.root.where if name in names), None)
    if culprit is not None:
        yield Paragraph("the curve of one tensor, in Python:", label_width=0)
        yield Code(f"steadygrad.open_run({str(run.path)!r}).norms({culprit!r})", indent=4)
    yield Paragraph("every number as a table:", label_width=0)
    yield Code(f"steadygrad export {shlex.quote(str(run.path))} --to csv", indent=4)
