"""How far each step moves the weights, relative to them, on the steps that measured it.

Shape legend: M measured steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steadygrad.report.page.data.buckets import Float64Array, IntArray
from steadygrad.runfile import Run

MOST_STEPS = 600
USUAL = (1e-4, 1e-2)
"""Where the ratio of a network that learns usually lies, around 1e-3."""


@dataclass(frozen=True, slots=True, eq=False)
class Updates:
    """Update ratio over the weights, step by step.

    Attributes:
        steps: the steps ``[M]``.
        low: 10th percentile over tensors ``[M]``.
        middle: median ``[M]``.
        high: 90th percentile ``[M]``.
        most: largest ``[M]``.
        leader: tensor with the largest ``[M]``.
    """

    steps: IntArray
    low: Float64Array
    middle: Float64Array
    high: Float64Array
    most: Float64Array
    leader: tuple[str, ...]


def updates(run: Run) -> Updates | None:
    """Prepare the update ratios ``norm of the change / norm of the parameter``.

    Args:
        run: the run.

    Returns:
        The ratios; None where no step measured them.
    """
    ratios: dict[int, list[float]] = {}
    names: dict[int, list[str]] = {}
    for block in run.blocks():
        weights, moved = block.body.param_norms, block.body.update_norms
        both = np.intersect1d(weights.rows, moved.rows)
        if not both.size:
            continue
        sizes = weights.matrix.values()[np.searchsorted(weights.rows, both)]
        changes = moved.matrix.values()[np.searchsorted(moved.rows, both)]
        for row, size, change in zip(both.tolist(), sizes, changes, strict=True):
            good = np.flatnonzero(np.isfinite(size) & np.isfinite(change) & (size > 0) & (change > 0))
            step = int(block.head.step[row])
            ratios.setdefault(step, []).extend((change[good] / size[good]).tolist())
            names.setdefault(step, []).extend(run.info.tensors[i].name for i in good.tolist())
    return _summed(ratios, names)


def _summed(ratios: dict[int, list[float]], names: dict[int, list[str]]) -> Updates | None:
    steps = sorted(step for step, values in ratios.items() if values)
    if not steps:
        return None
    if len(steps) > MOST_STEPS:
        steps = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, MOST_STEPS).astype(int)).tolist()]
    shares = np.array([np.percentile(ratios[step], (10, 50, 90, 100)) for step in steps])
    low, middle, high, most = shares.T
    leaders = tuple(names[step][int(np.argmax(ratios[step]))] for step in steps)
    return Updates(np.array(steps, np.int64), low, middle, high, most, leaders)
