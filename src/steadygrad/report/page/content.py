"""What there is to say in words about one run beside its pictures: verdict, facts, cards, incidents, environment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadygrad.records import Finding
from steadygrad.report.around import Around, around
from steadygrad.report.cards import Card, cards
from steadygrad.report.chapters import chapters
from steadygrad.report.facts import Facts, gather
from steadygrad.report.page.data.health import mean_overhead
from steadygrad.report.verdict import counted_steps, told_loss, verdict
from steadygrad.report.wording import duration, moment, number, plural, share
from steadygrad.runfile import Run
from steadygrad.runfile.own_clip import own_clip

MOST_CARDS = 24
MOST_INCIDENTS = 60

Rows = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Content:
    """The words of one run.

    Attributes:
        name: of the run.
        path: of its file.
        byline: mode, policy, model, optimizers, when.
        state: how bad it is; also the name of a colour.
        sentence: the verdict.
        facts: what was counted, each a name and a value.
        cards: one a root cause.
        untold: how many more findings of which kind; empty where all are told.
        incidents: what steadygrad did, the first of them, with the numbers around it.
        more_incidents: how many more.
        environment: command, versions, processes.
    """

    name: str
    path: str
    byline: str
    state: str
    sentence: str
    facts: Rows
    cards: tuple[Card, ...]
    untold: str
    incidents: tuple[Around, ...]
    more_incidents: int
    environment: Rows


def content(run: Run, findings: Sequence[Finding]) -> Content:
    """Put a run into words.

    Args:
        run: the run.
        findings: what to tell.

    Returns:
        The words.
    """
    info, told, facts = run.info, chapters(findings), gather(run)
    sentence = verdict(facts, told, run.incidents, run)
    rest = Counter(chapter.root.kind for chapter in told[MOST_CARDS:])
    return Content(
        info.name,
        run.path,
        _byline(run),
        sentence.state,
        sentence.sentence,
        tuple(_facts(run, facts)),
        cards(told[:MOST_CARDS]),
        ", ".join(f"{count:,} {kind}" for kind, count in rest.items()),
        around(run, run.incidents[:MOST_INCIDENTS]),
        max(0, len(run.incidents) - MOST_INCIDENTS),
        tuple(_environment(run)),
    )


def _byline(run: Run) -> str:
    info = run.info
    how = f"{info.mode}, policy {info.policy}" if info.policy else info.mode
    rank = f"rank {info.rank} of {info.world_size}" if info.world_size > 1 else ""
    parts = (how, info.model, ", ".join(info.optimizers), rank, moment(info.started))
    return " · ".join(part for part in parts if part)


def _facts(run: Run, facts: Facts) -> list[tuple[str, str]]:
    size = sum(tensor.numel for tensor in run.info.tensors)
    many = counted_steps(facts) if facts.optimizers > 1 else f"{facts.steps:,}"
    ended = "" if run.finished else " so far,"
    least = "at least " if facts.at_least else ""
    rows = [
        ("steps", f"{many}{ended} in {duration(facts.seconds)}"),
        ("model", f"{plural(len(run.info.tensors), 'tensor')}, {plural(size, 'parameter')}"),
    ]
    if run.loss_logged.any():
        rows.append(("loss, first and last", told_loss(facts, "→")))
    norms = run.total_norm[np.isfinite(run.total_norm)]
    if norms.size:
        rows.append(
            ("total norm, median and largest", f"{number(float(np.median(norms)))}, {number(_peak(run))}")
        )
    counts = (("scaled down", facts.clipped), ("skipped", facts.skipped), ("overflow", facts.overflowed))
    rows += [(name, f"{least}{count:,} ({share(count, facts.steps)})") for name, count in counts if count]
    overhead = mean_overhead(run)
    if facts.steps:
        each = 1e3 * overhead * facts.seconds / facts.steps
        cost = (
            "not recorded"
            if np.isnan(overhead)
            else f"{100 * overhead:.2g} % of the time, {number(each)} ms a step"
        )
        rows.append(("spent in steadygrad", cost))
    clip = own_clip(run)
    if clip is not None and len(clip.steps):
        rows.append(("own clip acted", f"at {clip.clipped:,} of {plural(len(clip.steps), 'step')}"))
    return rows


def _peak(run: Run) -> float:
    peaks = run.total_norm_max
    return float(peaks[np.isfinite(peaks)].max(initial=0.0))


def _environment(run: Run) -> list[tuple[str, str]]:
    info = run.info
    rows = [(name, version) for name, version in info.versions.items()]
    if info.command:
        rows.append(("command", " ".join(info.command)))
    if info.world_size > 1:
        rows.append(("process", f"rank {info.rank} of {info.world_size}"))
    coarse = int(run.resolution.max(initial=1))
    kept = "every step" if coarse == 1 else f"newest steps one by one, old ones up to {coarse:,} in a row"
    state = "finished" if run.finished else "still being written, or cut off"
    return [*rows, ("record", f"{kept}; {state}"), ("run file", run.path)]
