"""Which tensors need a look now.

Shape legend: W newest rows, P tensors.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from steadygrad.records import FloatArray
from steadygrad.runfile import Run

WINDOW_ROWS = 256
"""Rows that tell what is usual: long enough for a median, short enough to follow a level shift."""

NEWEST_ROWS = 16
"""Rows in which a peak counts as new; a spike stays in view for a few looks."""


@dataclass(frozen=True, slots=True, eq=False)
class Strained:
    """One tensor.

    Attributes:
        name: qualified name.
        now: its newest norm; NaN or Inf where that was not finite.
        usual: median of its finite norms above zero; NaN where it has none.
        ratio: largest of its newest norms as a multiple of the usual one.
        nonfinite: how many of its newest norms were not finite.
        recent: its norms, ``[W]``.
    """

    name: str
    now: float
    usual: float
    ratio: float
    nonfinite: int
    recent: FloatArray


def most_strained(run: Run, optimizer: int, most: int) -> list[Strained]:
    """Find the tensors that left their usual size furthest, those that aren't finite first.

    Each is compared with itself, so layers of any size compete.

    Args:
        run: the run.
        optimizer: whose tensors.
        most: how many.

    Returns:
        The worst first.
    """
    mine = np.flatnonzero([tensor.optimizer == optimizer for tensor in run.info.tensors])
    rows = np.flatnonzero(run.optimizer == optimizer)[-WINDOW_ROWS:]
    if not rows.size or not mine.size or most < 1:
        return []
    norms = run.norm_matrix(int(rows[0]))[rows - rows[0]][:, mine]
    usual, newest = _medians(norms), norms[-NEWEST_ROWS:]
    finite = np.isfinite(newest)
    peaks = np.where(finite, newest, 0.0).max(axis=0)
    ratio = np.divide(peaks, usual, out=np.zeros(len(mine)), where=usual > 0)
    bad = (~finite).sum(axis=0)
    order = np.lexsort((-ratio, -bad))[:most]
    return [
        Strained(
            run.info.tensors[mine[i]].name,
            float(norms[-1, i]),
            float(usual[i]),
            float(ratio[i]),
            int(bad[i]),
            norms[:, i],
        )
        for i in order
    ]


def _medians(norms: FloatArray) -> FloatArray:
    counted = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    with warnings.catch_warnings():
        # a column without any number is a fact to tell, not a mistake
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        medians: FloatArray = np.nanmedian(counted, axis=0)
    return medians
