"""The usual gradient norm of every tensor.

Shape legend: T rows of the run, P tensors.
"""

from __future__ import annotations

import warnings

import numpy as np

from steadygrad.records import FloatArray
from steadygrad.runfile import Run

SAMPLES = 32
SAMPLE_ROWS = 64


def median_norms(run: Run) -> FloatArray:
    """Take each tensor's median norm over stretches spread evenly over the run.

    32 stretches of 64 rows are enough for a median, and keep a run of a million steps as quick to
    explain as a short one. Zeros are left out: a tensor has one wherever it got no gradient.

    Args:
        run: the run.

    Returns:
        Medians of the finite norms above zero, ``[P]``; NaN for a tensor that has none.
    """
    total = len(run.steps)
    if total <= SAMPLES * SAMPLE_ROWS:
        norms = run.norm_matrix()
    else:
        starts = np.linspace(0, total - SAMPLE_ROWS, SAMPLES).astype(int)
        norms = np.concatenate([run.norm_matrix(int(s), int(s) + SAMPLE_ROWS) for s in starts])
    counted = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    if not counted.size:
        return np.full(norms.shape[1], np.nan)
    with warnings.catch_warnings():
        # a column without any number is a fact to tell, not a mistake
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        medians: FloatArray = np.nanmedian(counted, axis=0)
    return medians
