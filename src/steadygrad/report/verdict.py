"""The whole run in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from steadygrad.catalog import CATALOG
from steadygrad.records import Finding, Incident
from steadygrad.report.chapters import Chapter
from steadygrad.report.facts import Facts
from steadygrad.report.profile import told_growth
from steadygrad.report.wording import layer, number, plural, visible
from steadygrad.runfile import Run

_LONGEST = 60
_WHY_EMPTY = "Was it the optimizer that steadygrad was given whose step() was called? Where none is, call the guard's clip_()."
_NONFINITE = frozenset(
    {"nonfinite_activation", "nonfinite_loss", "nonfinite_gradient", "nonfinite_parameter"}
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence and how bad it is.

    A run is ``held`` where the guard's policy had to engage and nothing worse was found: it wasn't
    healthy by itself.
    """

    state: Literal["empty", "healthy", "held", "warning", "error"]
    sentence: str


def verdict(
    facts: Facts, told: Sequence[Chapter], incidents: Sequence[Incident], run: Run | None = None
) -> Verdict:
    """Judge a run by its worst chapter; of equals the first.

    Args:
        facts: what was counted.
        told: the findings by root cause.
        incidents: what the guard did.
        run: the run, where its norms are at hand; they tell growth per layer.

    Returns:
        The verdict.
    """
    if not facts.steps and not told:
        ended = run is not None and run.finished
        return Verdict("empty", "Empty: no step was recorded." + (f" {_WHY_EMPTY}" if ended else ""))
    for severity in ("error", "warning"):
        worst = [chapter for chapter in told if chapter.severity == severity]
        if worst:
            grown = told_growth(run, worst[0].root) if run is not None else ""
            sentence = _blame(worst[0].root, grown) + _follow_up(worst[0]) + _outcome(facts, incidents)
            more = f"; {plural(len(worst) - 1, f'more {severity}')} below" if len(worst) > 1 else ""
            return Verdict("error" if severity == "error" else "warning", f"{sentence}{more}.")
    if facts.first_nonfinite is not None:
        found = f"Non-finite gradient (step {facts.first_nonfinite:,})"
        return Verdict("error", f"{found}{_outcome(facts, incidents)}.")
    engaged = next((incident for incident in incidents if incident.action == "engage"), None)
    if engaged is not None:
        return Verdict("held", _held(facts, told, engaged))
    return Verdict("healthy", _healthy(facts, told))


def counted_steps(facts: Facts) -> str:
    """Write how many steps there were, and of how many optimizers where it's more than one."""
    several = f" of {facts.optimizers} optimizers" if facts.optimizers > 1 else ""
    return f"{plural(facts.steps, 'step')}{several}"


def told_loss(facts: Facts, arrow: str) -> str:
    """Write the first loss and the last, and how many weren't finite."""
    if not isfinite(facts.first_loss):
        return "never finite"
    ended_well, count = isfinite(facts.last_loss), facts.nonfinite_losses
    last = number(facts.last_loss) if ended_well else "not finite"
    told = f"{number(facts.first_loss)} {arrow} {last}"
    if count <= (not ended_well):
        return told
    least = "at least " if facts.coarse else ""
    return f"{told}, {least}{count:,} not finite" if ended_well else f"{told}, as {least}{count:,} in all"


def title(kind: str) -> str:
    """The name of a kind for a person, also of a kind that a newer version recorded."""
    known = CATALOG.get(kind)
    return known.title if known else visible(kind.replace("_", " ").capitalize())


def _blame(finding: Finding, grown: str) -> str:
    if grown:
        return f"{title(finding.kind)} at step {finding.step:,}: {grown}"
    place = _rows(finding) if finding.kind == "nonfinite_input" else _tensors(finding)
    return f"{title(finding.kind)} (step {finding.step:,}{place})"


def _tensors(finding: Finding) -> str:
    rest = len(finding.where) - 1
    more = f" and {rest:,} more" if rest > 0 else ""
    return f", {_short(finding.where[0])}{more}" if finding.where else ""


def _rows(finding: Finding) -> str:
    """What is wrong with a batch is in its rows: the gradients that came of it are no place to look."""
    row, count = (finding.evidence.get(name, -1.0) for name in ("first batch row", "batch rows"))
    if not (isfinite(row) and isfinite(count)) or row < 0:
        return ""
    return f", row {int(row):,}" + (f" and {int(count) - 1:,} more" if count > 1 else "")


def _short(name: str) -> str:
    """The end of a long name, which tells most; the card has all of it."""
    text = layer(name)
    return text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}"


def _follow_up(chapter: Chapter) -> str:
    """The first error that came of it, or whatever is worse than how it began."""
    told = (f for f in chapter.consequences if f.severity == chapter.severity)
    worst = next(told, None)
    if worst is None or (chapter.severity != "error" and chapter.root.severity == chapter.severity):
        return ""
    if worst.kind in _NONFINITE and worst.where:
        return f"; first non-finite in {_short(worst.where[0])} (step {worst.step:,})"
    return f", then {title(worst.kind)} (step {worst.step:,})"


def _outcome(facts: Facts, incidents: Sequence[Incident]) -> str:
    stop = next((incident for incident in incidents if incident.action == "stop"), None)
    back = len({incident.step for incident in incidents if incident.action == "rollback"})
    done = f", {_counted(facts, facts.skipped)} skipped" if facts.skipped else ""
    done += f", {plural(back, 'rollback')}" if back else ""
    if stop:
        return f"{done}; the guard stopped the run at step {stop.step:,}"
    if facts.nonfinite_at_end > 1:
        return f"{done}; the last {facts.nonfinite_at_end:,} steps are all non-finite"
    if done:
        return f"{done}, the run went on"
    return "; the run ended there" if facts.nonfinite_at_end else ""


def _held(facts: Facts, told: Sequence[Chapter], engaged: Incident) -> str:
    what = f"{plural(len(told), 'note')} below" if told else "nothing else to report"
    scaled = f" ({_counted(facts, facts.clipped)} scaled down)" if facts.clipped else ""
    return f"Unstable from step {engaged.step:,}, held by the guard{scaled}: {counted_steps(facts)}, {what}."


def _healthy(facts: Facts, told: Sequence[Chapter]) -> str:
    what = f"{plural(len(told), 'note')} below" if told else "nothing to report"
    scaled = f"; {_counted(facts, facts.clipped)} scaled down" if facts.clipped else ""
    waited = f"; {_counted(facts, facts.overflowed)} left out by the loss scaler" if facts.overflowed else ""
    return f"Healthy: {counted_steps(facts)}, {what}{scaled}{waited}."


def _counted(facts: Facts, steps: int) -> str:
    return ("at least " if facts.at_least else "") + plural(steps, "step")
