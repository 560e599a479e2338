"""What a run's numbers say when they are simply counted.

Shape legend: T rows of the run; an old row may stand for many steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from steadygrad.runfile import Run


@dataclass(frozen=True, slots=True)
class Facts:
    """Counts over a whole run.

    Attributes:
        steps: optimizer steps recorded.
        seconds: from the start of the run to its last row.
        clipped: steps in which some gradient was scaled down.
        skipped: steps left out for a fault.
        overflowed: steps left out while a ``GradScaler`` looked for its scale.
        at_least: the three counts are lower bounds, because some of these rows stand for many steps.
        nonfinite: steps with a non-finite gradient that were no overflow.
        first_nonfinite: first step with a non-finite gradient that was no overflow; None without.
        nonfinite_at_end: steps at the end of the run whose total norm is non-finite.
        first_loss: first finite loss that was logged, NaN without.
        last_loss: last one that was logged; NaN or Inf where it wasn't finite.
        optimizers: how many made the steps.
        nonfinite_losses: losses logged that weren't finite, as far as rows of one step tell.
        coarse: whether some rows stand for many steps.
    """

    steps: int
    seconds: float
    clipped: int
    skipped: int
    overflowed: int
    at_least: bool
    nonfinite: int
    first_nonfinite: int | None
    nonfinite_at_end: int
    first_loss: float
    last_loss: float
    optimizers: int = 1
    nonfinite_losses: int = 0
    coarse: bool = False


def gather(run: Run) -> Facts:
    """Count what happened in a run."""
    clipped = (run.clip_coef < 1.0) & ~run.skipped
    skipped = run.skipped & ~run.overflow
    nonfinite = (run.nonfinite_count > 0) & ~run.overflow
    finite = np.flatnonzero(np.isfinite(run.total_norm))
    logged = run.loss[run.loss_logged]
    losses = logged[np.isfinite(logged)]
    return Facts(
        steps=int(run.resolution.sum()),
        seconds=float(run.time_s.max(initial=0.0)),
        clipped=int(clipped.sum()),
        skipped=int(skipped.sum()),
        overflowed=int(run.overflow.sum()),
        at_least=bool(((clipped | run.skipped) & (run.resolution > 1)).any()),
        nonfinite=int(nonfinite.sum()),
        first_nonfinite=int(run.steps[nonfinite].min()) if nonfinite.any() else None,
        nonfinite_at_end=int(run.resolution[finite[-1] + 1 if finite.size else 0 :].sum()),
        first_loss=float(losses[0]) if losses.size else math.nan,
        last_loss=float(logged[-1]) if logged.size else math.nan,
        optimizers=max(1, len(np.unique(run.optimizer))),
        nonfinite_losses=len(logged) - len(losses),
        coarse=bool((run.resolution > 1).any()),
    )
