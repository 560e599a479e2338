"""The one line at the end: what was found, where the run is, what to do next."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from steadygrad.launch.result import Result, Training

if TYPE_CHECKING:
    # It imports numpy, which reads its settings from the environment: not before the script has.
    from steadygrad.records import Finding

_MOST_NAMED = 3
_DONE = {"watch": "watched", "guard": "guarded"}


def closing_line(script: str, result: Result, *, torch_imported: bool) -> str:
    """Tell a person how it went.

    Args:
        script: what was run.
        result: what was seen.
        torch_imported: whether the script used torch at all.

    Example:
        >>> closing_line("plot.py", Result(), torch_imported=False)
        'plot.py never imported torch, so there was nothing to watch'
    """
    if result.fault is not None:
        return f"nothing was watched, by a fault of steadygrad's own ({result.fault}). Please report it."
    if not torch_imported:
        return f"{script} never imported torch, so there was nothing to watch"
    trained = [one for one in result.trainings if one.steps > one.overflows and one.moved]
    if not trained:
        return _nothing_trained(script, result.trainings)
    told = "; ".join(_told_apart(trained)) if len(trained) <= _MOST_NAMED else _told_together(trained)
    unrecorded = f", {result.unrecorded:,} of them not recorded" if result.unrecorded else ""
    return f"{told}{unrecorded}{_next(trained)}"


def _nothing_trained(script: str, seen: Sequence[Training]) -> str:
    told = [one for one in seen if one.findings and not one.by_hand]
    if told:
        found = _found([one.findings for one in told])
        return f"{script} made no step: {found}{_next(told)}"
    by_hand = [one for one in seen if one.by_hand and one.steps]
    if by_hand:
        steps, model = by_hand[0].steps, by_hand[0].model
        return f"{script} made {steps:,} backward passes through {model} and changed no parameter: nothing was trained"
    return (
        f"{script} trained nothing that can be seen from here: no optimizer made a step, and no backward() was "
        "followed by an update. A program that it starts is watched if `python -m steadygrad run` starts it; gradients from "
        "torch.func or torch.autograd.grad are not seen"
    )


def _told_apart(trained: Sequence[Training]) -> Iterator[str]:
    """Each, by its part where several are of models with one name."""
    counts = Counter(one.model for one in trained)
    for one in trained:
        yield _told(
            replace(one, model=f"{one.model} ({one.part})") if counts[one.model] > 1 and one.part else one
        )


def _told_together(trained: Sequence[Training]) -> str:
    together = Training(trained[0].mode, _title(trained), None)
    for one in trained:
        together.steps += one.steps
        together.clipped += one.clipped
        together.skipped += one.skipped
        together.overflows += one.overflows
    return _told(together, [one.findings for one in trained])


def _title(trained: Sequence[Training]) -> str:
    models = len({one.number for one in trained})
    if models == len(trained) or not all(one.number for one in trained):
        return f"{len(trained):,} models, one after the other or together"
    return f"{f'{models:,} models' if models > 1 else trained[0].model} by {len(trained):,} optimizers"


def _told(training: Training, runs: Sequence[Sequence[Finding]] | None = None) -> str:
    steps = f"{training.steps:,} step{'' if training.steps == 1 else 's'}"
    deeds = [f"{n:,} {what}" for n, what in _deeds(training) if n]
    done = f" ({', '.join(deeds)})" if deeds else ""
    return f"{_DONE[training.mode]} {steps} of {training.model}{done}, {_found(runs or [training.findings])}"


def _deeds(training: Training) -> tuple[tuple[int, str], ...]:
    overflows = (training.overflows, "left out by the loss scaler")
    if training.mode == "watch":
        return (overflows,)
    return ((training.clipped, "clipped"), (training.skipped, "skipped"), overflows)


def _found(runs: Sequence[Sequence[Finding]]) -> str:
    """The cause of the worst, the first of its severity, and how many other causes there are, as `explain` numbers them."""
    # Whoever has made a Finding has imported numpy.
    from steadygrad.report.chapters import chapters  # noqa: PLC0415

    causes = [one for findings in runs if findings for one in chapters(findings) if one.severity != "info"]
    if not causes:
        return "nothing found"
    worst = max(causes, key=lambda one: (max(map(_gravity, one.findings)), -one.root.step)).root
    where = f" in {worst.where[0]}" if worst.where else ""
    more = f" and {len(causes) - 1:,} more" if len(causes) > 1 else ""
    return f"{worst.kind} at step {worst.step:,}{where}{more}"


def _gravity(finding: Finding) -> int:
    from steadygrad.records import SEVERITIES  # noqa: PLC0415 - whoever has made a Finding has imported it

    return SEVERITIES.index(finding.severity)


def _next(trained: Sequence[Training]) -> str:
    recorded = [one for one in trained if one.run is not None]
    if not recorded:
        return ""
    worst = max(recorded, key=lambda one: max(map(_gravity, one.findings), default=-1))
    places = [_here(one.run) for one in recorded if one.run]
    where = (
        ", ".join(places)
        if len(places) <= _MOST_NAMED
        else f"{Path(places[0]).parent}/ ({len(places):,} runs)"
    )
    return f"; recorded in {where}; next: steadygrad explain {shlex.quote(_here(worst.run or ''))}"


def _here(path: str) -> str:
    """As short as it can be typed in this folder."""
    try:
        short = os.path.relpath(path)
    except (OSError, ValueError):
        return path
    return path if short.startswith("..") else str(Path(short))
