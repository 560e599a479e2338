"""The script's own clip, as a run file tells of it: the total norm before and after, as two scalars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steadygrad.runfile.block import Float64Array, IntArray
from steadygrad.runfile.reader import Run

BEFORE = "total_norm before clip"
AFTER = "total_norm after clip"
# A coefficient of one leaves every bit; below it, float32 rounds at about 1e-7.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class OwnClip:
    """What the script's ``clip_grad_norm_`` met and what it left.

    Attributes:
        steps: steps at which it was called ``[T]``.
        before: total norm before ``[T]``.
        after: total norm after ``[T]``.
    """

    steps: IntArray
    before: Float64Array
    after: Float64Array

    @property
    def clipped(self) -> int:
        """Calls that scaled something down."""
        return int((self.after < self.before * (1 - _ROUNDING)).sum())


def own_clip(run: Run) -> OwnClip | None:
    """The script's own clip; None where it has none, or the run wasn't recorded by ``steadygrad run``."""
    if not {BEFORE, AFTER} <= set(run.scalar_names):
        return None
    steps, before = run.scalars(BEFORE)
    after = run.scalars(AFTER)[1]
    whole = min(len(before), len(after))
    return OwnClip(steps[:whole], before[:whole], np.asarray(after[:whole]))
