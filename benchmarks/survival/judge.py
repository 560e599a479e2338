"""Regret against the best constant clip, with what chance could have made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.survival.published import half_decades
from benchmarks.survival.store import Cell
from benchmarks.survival.trial import Result
from benchmarks.survival.workload import Workload

CONSTANTS = [f"clip:{norm:.6g}" for norm in half_decades()]
BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Judged:
    """One contender on one workload at one loss scale.

    Attributes:
        regret: 0 is as good as the best constant, 1 no better than a guess; clamped to [-1, 1].
        lost: trainings that ended non-finite or no better than a guess.
        losses: of each seed.
        touched: mean share of steps changed.
    """

    regret: float
    lost: int
    losses: tuple[float, ...]
    touched: float | None


def best_constant(results: dict[str, Result], workload: Workload, scale: float, seeds: Sequence[int]) -> str:
    """The constant with the smallest mean loss on the tuning seeds, for a loss that is multiplied by ``scale``.

    A loss times s with the rate divided by s (Adam's left alone) and the cap times s is the same training, so
    what was tuned at natural scale holds at every other.
    """

    def mean(name: str) -> float:
        losses = [results[Cell(workload.name, name, 1.0, seed).key].loss for seed in seeds]
        return sum(losses) / len(losses)

    natural = min([*CONSTANTS, "skip"], key=mean)
    return natural if natural == "skip" else f"clip:{float(natural.removeprefix('clip:')) * scale:.6g}"


def judge(
    results: dict[str, Result], workload: Workload, name: str, scale: float, seeds: Sequence[int], best: float
) -> Judged | None:
    """Regret of a contender; None where it wasn't run.

    Args:
        results: everything measured.
        workload: where.
        name: the contender.
        scale: loss scale.
        seeds: fresh ones.
        best: mean loss of the best constant on the same seeds.
    """
    found = [results.get(Cell(workload.name, name, scale, seed).key) for seed in seeds]
    if any(one is None for one in found):
        return None
    kept = [one for one in found if one is not None]
    losses = tuple(one.loss for one in kept)
    shares = [one.touched for one in kept if one.touched is not None]
    return Judged(
        regret(float(np.mean(losses)), best, workload.guess),
        sum(not math.isfinite(loss) or loss >= workload.guess for loss in losses),
        losses,
        sum(shares) / len(shares) if shares else None,
    )


def regret(loss: float, best: float, guess: float) -> float:
    """``(loss - best) / (guess - best)``, clamped; 1 for what isn't finite."""
    if not math.isfinite(loss) or not math.isfinite(best):
        return 1.0 if not math.isfinite(loss) else -1.0
    return min(max((loss - best) / max(guess - best, 1e-12), -1.0), 1.0)


def interval(values: Sequence[float], quantile: float) -> tuple[float, float, float]:
    """A quantile with its 95 % bootstrap interval over workloads."""
    rng = np.random.default_rng(0)
    array = np.asarray(values)
    drawn = np.quantile(rng.choice(array, (BOOTSTRAPS, len(array))), quantile, axis=1)
    return (
        float(np.quantile(array, quantile)),
        float(np.quantile(drawn, 0.025)),
        float(np.quantile(drawn, 0.975)),
    )
