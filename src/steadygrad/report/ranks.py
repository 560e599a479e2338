"""What the run files of several ranks tell together: who is missing, who ended early, who differs.

Shape legend: T steps that all ranks have, n ranks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadygrad.report.wording import number, plural, some
from steadygrad.runfile import Run
from steadygrad.runfile.own_numbers import LOCAL_NORM

Float64Array = NDArray[np.float64]
Points = tuple[NDArray[np.int64], Float64Array]

STANDS_OUT = 3.0
"""Times the median of the ranks: batches of one data set differ by less over a run."""

_GUILTY = "guilty_rank"
MOST_NAMED = 8


@dataclass(frozen=True, slots=True, eq=False)
class Skew:
    """One number that each rank has of its own.

    Attributes:
        label: what it is, in two words.
        what: what it is.
        ranks: of which ranks ``[n]``.
        steps: the steps that all of them have ``[T]``.
        values: ``[T, n]``.
    """

    label: str
    what: str
    ranks: tuple[int, ...]
    steps: NDArray[np.int64]
    values: Float64Array

    def typical(self) -> Float64Array:
        """Median of the finite values of the ranks ``[T]``; NaN where no rank has one."""
        finite = np.where(np.isfinite(self.values), self.values, np.nan)
        some = ~np.isnan(finite).all(axis=1)
        middle = np.full(len(self.steps), np.nan)
        middle[some] = np.nanmedian(finite[some], axis=1)
        return middle

    def factors(self) -> Float64Array:
        """By rank, the median over steps of its value beside the typical one ``[n]``; NaN where it has none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            beside = self.values / self.typical()[:, None]
        finite = np.where(np.isfinite(beside), beside, np.nan)
        return np.array([np.nanmedian(one) if (~np.isnan(one)).any() else np.nan for one in finite.T])


def skew(runs: Sequence[Run]) -> Skew | None:
    """The number that tells the ranks apart best, of those that were recorded.

    Args:
        runs: one a rank, in order.

    Returns:
        Norms before reduction, else losses, else seconds a step; None where the ranks share no step.
    """
    choices: tuple[tuple[str, str, Callable[[Run], Points]], ...] = (
        ("local norm", "gradient norm before reduction (of a few tensors)", _local_norms),
        ("loss", "loss of its own batches", _losses),
        ("seconds", "time of a step", _seconds),
    )
    ranks = tuple(run.info.rank for run in runs)
    for label, what, read in choices:
        points = [read(run) for run in runs]
        steps = reduce(np.intersect1d, [steps for steps, _ in points])
        if steps.size:
            columns = [values[np.searchsorted(own, steps)] for own, values in points]
            return Skew(label, what, ranks, steps, np.stack(columns, axis=1))
    return None


def _local_norms(run: Run) -> Points:
    if LOCAL_NORM not in run.scalar_names:
        return np.zeros(0, np.int64), np.zeros(0)
    return _once_each(*run.scalars(LOCAL_NORM))


def _losses(run: Run) -> Points:
    rows = run.loss_logged & (run.optimizer == 0)
    return _once_each(run.steps[rows], run.loss[rows])


def _seconds(run: Run) -> Points:
    rows = run.optimizer == 0
    steps, times = run.steps[rows], run.time_s[rows]
    return _once_each(steps[1:], np.diff(times) / np.maximum(np.diff(steps), 1))


def _once_each(steps: NDArray[np.integer[Any]], values: Float64Array) -> Points:
    own, first = np.unique(steps, return_index=True)
    return own.astype(np.int64), values[first].astype(np.float64)


def told(runs: Sequence[Run], found: Skew | None) -> list[str]:
    """What is to be said of the ranks beside the story of one of them, a sentence each.

    Args:
        runs: one a rank, in order; some may be missing.
        found: from `skew` of the same runs.
    """
    return [
        *_present(runs, runs[0].info.world_size),
        *_ends(runs),
        *_skips(runs),
        *_guilty(runs),
        *_alone(runs),
        *_standing_out(found),
    ]


def _present(runs: Sequence[Run], world_size: int) -> Iterator[str]:
    missing = sorted(set(range(world_size)) - {run.info.rank for run in runs})
    if missing:
        yield (
            f"{len(runs)} of {world_size} run files are here; rank{'s' * (len(missing) > 1)} {_names(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} missing."
        )
    else:
        yield f"The run files of all {world_size} ranks are here."


def _ends(runs: Sequence[Run]) -> Iterator[str]:
    last = {run.info.rank: int(run.steps[-1]) if run.steps.size else -1 for run in runs}
    end = max(last.values())
    early = [rank for rank, step in last.items() if step < end - 1]
    for rank in early[:MOST_NAMED]:
        yield f"Rank {rank} ends at step {last[rank]:,}, {plural(end - last[rank], 'step')} before the last of the others."


def _skips(runs: Sequence[Run]) -> Iterator[str]:
    end = min(int(run.steps[-1]) if run.steps.size else -1 for run in runs)
    skipped = [frozenset(run.steps[run.skipped & (run.steps <= end)].tolist()) for run in runs]
    if len(set(skipped)) > 1:
        steps = sorted(frozenset.union(*skipped) - frozenset.intersection(*skipped))
        yield (
            f"The ranks did not skip the same steps; they differ first at step {steps[0]:,}. Their weights are no longer "
            "the same: attach on every rank, in the same place."
        )
    elif len(runs) > 1 and skipped[0]:
        count = len(skipped[0])
        yield (
            "All ranks skipped the same step."
            if count == 1
            else f"All ranks skipped the same {count:,} steps."
        )


def _guilty(runs: Sequence[Run]) -> Iterator[str]:
    named = {
        (one.kind, one.step): int(one.evidence[_GUILTY])
        for run in runs
        for one in run.findings
        if _GUILTY in one.evidence
    }
    for rank, count in Counter(named.values()).most_common():
        first = min(step for (_, step), guilty in named.items() if guilty == rank)
        yield f"Rank {rank} brought {count} of {plural(len(named), 'finding')} whose rank is known, the first at step {first:,}."


def _alone(runs: Sequence[Run]) -> Iterator[str]:
    """Findings that not every rank has: losses and signals inside the model are each rank's own."""
    ranks_of: dict[str, dict[int, int]] = {}
    for run in runs:
        for one in run.findings:
            if one.severity != "info":
                ranks_of.setdefault(one.kind, {}).setdefault(run.info.rank, one.step)
    for kind, first in ranks_of.items():
        if 0 < len(first) < len(runs):
            yield f"{kind} on rank{'s' * (len(first) > 1)} {_names(sorted(first))} only, first at step {min(first.values()):,}."


def _standing_out(found: Skew | None) -> Iterator[str]:
    if found is None or len(found.ranks) == 1:
        return
    for rank, factor in zip(found.ranks, found.factors(), strict=True):
        if factor > STANDS_OUT or 0.0 <= factor < 1 / STANDS_OUT:
            yield f"Rank {rank} stands out: its {found.what} is usually {number(float(factor))} x that of the others."
    bad = {
        rank: int((~np.isfinite(one)).sum()) for rank, one in zip(found.ranks, found.values.T, strict=True)
    }
    for rank, count in bad.items():
        if count:
            yield f"The {found.what} of rank {rank} was not finite at {plural(count, 'step')}."


def _names(ranks: Sequence[int]) -> str:
    return some([str(rank) for rank in ranks], MOST_NAMED)
