"""What the signals inside the model were like, and what steadygrad itself cost, over the run.

Shape legend: K looks, M points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steadygrad.records import Look
from steadygrad.report.page.data.buckets import Float64Array, IntArray
from steadygrad.runfile import Run
from steadygrad.runfile.own_numbers import OVERHEAD

MOST_POINTS = 600


@dataclass(frozen=True, slots=True, eq=False)
class Health:
    """Activation health, look by look.

    Attributes:
        looks: those that heard layers, by step ``[K]``.
        steps: their steps ``[K]``.
    """

    looks: tuple[Look, ...]
    steps: IntArray

    def column(self, name: str) -> Float64Array:
        """One number of every look ``[K]``."""
        return np.array([getattr(look, name) for look in self.looks], np.float64)

    @property
    def bad_steps(self) -> IntArray:
        """Steps at which some layer was fed a value that is no finite number."""
        return self.steps[~np.isfinite(self.column("largest"))]


@dataclass(frozen=True, slots=True, eq=False)
class Spent:
    """What steadygrad cost, point by point.

    Attributes:
        steps: the step at which each stretch ends ``[M]``.
        mean: mean share of the time ``[M]``.
        most: the largest share of a part of the stretch ``[M]``.
    """

    steps: IntArray
    mean: Float64Array
    most: Float64Array


def health(run: Run) -> Health | None:
    """Gather what was heard inside the model.

    Args:
        run: the run.

    Returns:
        The looks at layers; None where there was none, or an earlier version recorded the run.
    """
    heard = sorted((look for look in run.looks if look.layers), key=lambda look: look.step)
    return Health(tuple(heard), np.array([look.step for look in heard], np.int64)) if heard else None


def spent(run: Run) -> Spent | None:
    """What steadygrad cost, as a share of the training's time.

    Args:
        run: the run.

    Returns:
        At most `MOST_POINTS` points; None where an earlier version recorded the run.
    """
    if OVERHEAD not in run.scalar_names:
        return None
    steps, share = run.scalars(OVERHEAD)
    order = np.argsort(steps, kind="stable")
    starts = np.arange(0, len(order), -(-len(order) // MOST_POINTS))
    counts = np.diff(starts, append=len(order))
    steps, share = steps[order], share[order]
    mean = np.add.reduceat(share, starts) / counts
    return Spent(steps[starts + counts - 1], mean, np.maximum.reduceat(share, starts))


def mean_overhead(run: Run) -> float:
    """Mean share of the time that steadygrad took, each stretch by its steps; NaN where it isn't recorded."""
    if OVERHEAD not in run.scalar_names:
        return float("nan")
    steps, share = run.scalars(OVERHEAD)
    order = np.argsort(steps, kind="stable")
    width = np.diff(steps[order], prepend=min(0, int(steps.min())) - 1)
    return float(np.average(share[order], weights=width)) if width.sum() > 0 else float(share.mean())
