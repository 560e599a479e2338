"""From results to tables: who recovered, how fast, and how far the end is from the twin's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.recovery.store import Cell
from benchmarks.recovery.trial import AFTER, Result

NEAR = 1.05
"""Factor of the twin's loss within which a training counts as unharmed."""


@dataclass(frozen=True)
class Row:
    """Some trainings under one contender, put together.

    Attributes:
        count: how many.
        recovered: share that recovered in time.
        near: share whose final loss is at most `NEAR` times the twin's.
        ratio: final loss over the twin's, mean over all in logarithms; infinite where one was lost.
        lost: share that ended above any use: not finite, or stopped.
        rollbacks: a training.
        repairs: a training.
        steps: median steps to recovery of those that recovered.
    """

    count: int
    recovered: float
    near: float
    ratio: float
    lost: float
    rollbacks: float
    repairs: float
    steps: float


def recovered_after(result: Result, twin: Result) -> int | None:
    """Steps from the fault until the held-out loss is as good again; None where it isn't within 100.

    As good as it was when the fault struck, or as the twin's at the same step where that is worse; 5 % apart at most.
    """
    for steps, loss, theirs in zip(AFTER, result.after, twin.after, strict=False):
        if loss <= NEAR * max(twin.before, theirs):
            return steps
    return None


def row_of(results: dict[str, Result], cells: Iterable[Cell]) -> Row:
    """Put some trainings together; each is compared with the twin of its training, step and seed."""
    keys = [(cell.key, twin_of(cell).key) for cell in cells]
    pairs = [(results[one], results[twin]) for one, twin in keys if one in results and twin in results]
    times = [recovered_after(one, twin) for one, twin in pairs]
    found = [time for time in times if time is not None]
    ratios = [one.final / twin.final for one, twin in pairs]
    finite = [math.log(ratio) for ratio in ratios if math.isfinite(ratio)]
    n = max(len(pairs), 1)
    return Row(
        len(pairs),
        len(found) / n,
        sum(ratio <= NEAR for ratio in ratios) / n,
        math.exp(sum(finite) / len(finite)) if finite else math.inf,
        1 - len(finite) / n,
        sum(one.rollbacks for one, _ in pairs) / n,
        sum(one.repairs for one, _ in pairs) / n,
        median(found) if found else math.nan,
    )


def twin_of(cell: Cell) -> Cell:
    """The same without a fault."""
    return Cell(cell.training, "plain", "", cell.at, cell.seed)


def table(results: dict[str, Result], groups: dict[str, Sequence[Cell]]) -> list[str]:
    """One line a group."""
    names = (
        "trainings",
        "recovered within 100 steps",
        "after, steps",
        "final loss within 5 %",
        "final loss / twin",
        "lost",
        "rollbacks",
        "repairs",
    )
    lines = [f"| | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for name, cells in groups.items():
        row = row_of(results, cells)
        if not row.count:
            continue
        lines.append(
            f"| {name} | {row.count} | {row.recovered:.1%} | {row.steps:.0f} | {row.near:.1%} | {row.ratio:.3f} "
            f"| {row.lost:.1%} | {row.rollbacks:.2f} | {row.repairs:.2f} |"
        )
    return lines
