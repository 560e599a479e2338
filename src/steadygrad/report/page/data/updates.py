"""How far each step moves the weights, relative to them, on the steps that measured it.

Shape legend: M measured steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steadygrad.report.page.data.buckets import Float64Array, IntArray
from steadygrad.runfile import Run
from steadygrad.runfile.block import Block

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


class UpdatesMaker:
    """Gathers the ratios ``norm of the change / norm of the parameter`` from the stretches of a run as they come.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self._tensors = run.info.tensors
        self._ratios: dict[int, list[Float64Array]] = {}
        self._leaders: dict[int, tuple[float, str]] = {}

    def take(self, block: Block) -> None:
        """Gather what one stretch measured."""
        weights, moved = block.body.param_norms, block.body.update_norms
        both = np.intersect1d(weights.rows, moved.rows)
        if not both.size:
            return
        sizes = weights.matrix.values()[np.searchsorted(weights.rows, both)]
        changes = moved.matrix.values()[np.searchsorted(moved.rows, both)]
        for row, size, change in zip(both.tolist(), sizes, changes, strict=True):
            good = np.flatnonzero(np.isfinite(size) & np.isfinite(change) & (size > 0) & (change > 0))
            step = int(block.head.step[row])
            if not good.size:
                continue
            ratios = change[good] / size[good]
            most = int(np.argmax(ratios))
            leader = (float(ratios[most]), self._tensors[good[most]].name)
            self._ratios.setdefault(step, []).append(ratios)
            self._leaders[step] = max(self._leaders.get(step, leader), leader)

    def done(self) -> Updates | None:
        """The ratios; None where no step measured them."""
        return _summed(self._ratios, self._leaders)


def updates(run: Run) -> Updates | None:
    """Prepare the update ratios alone.

    Args:
        run: the run.

    Returns:
        The ratios; None where no step measured them.
    """
    maker = UpdatesMaker(run)
    for block in run.blocks():
        maker.take(block)
    return maker.done()


def _summed(ratios: dict[int, list[Float64Array]], leaders: dict[int, tuple[float, str]]) -> Updates | None:
    steps = sorted(ratios)
    if not steps:
        return None
    if len(steps) > MOST_STEPS:
        steps = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, MOST_STEPS).astype(int)).tolist()]
    shares = np.array([np.percentile(np.concatenate(ratios[step]), (10, 50, 90, 100)) for step in steps])
    low, middle, high, most = shares.T
    names = tuple(leaders[step][1] for step in steps)
    return Updates(np.array(steps, np.int64), low, middle, high, most, names)
