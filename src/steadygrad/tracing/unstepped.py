"""Losses that aren't finite, and no step of the optimizer between them: nobody but the losses would tell.

A ``GradScaler`` never asks an optimizer that isn't fused to make such a step, and a loop may leave it out by itself.
"""

from __future__ import annotations

import weakref
from collections import deque
from itertools import groupby

from torch import Tensor

from steadygrad.tracing.capture import Capture

LOSSES = 3
"""In a row: a scaler that looks for its scale, or a loop that leaves a bad batch out, has one or two."""
_PATIENCE = 64
"""In a row while it isn't known how many losses a step has, and gradients seem to be gathered for the first."""
AGAIN = 1000
"""Steps before it is told once more: a loop that leaves bad batches out by itself does so for as long as it runs."""
_RECENT = 3
_REMEMBERED = 512


class Unstepped:
    """Counts losses in a row that aren't finite, of training calls of the model, since the newest step.

    Losses of micro-batches have their step to come, whose gradient tells: so there must be more than twice as many as
    the newest steps had. Losses of a validation don't count: no gradient came back to its calls, nor was the model in
    training mode then. What has been told is told again after `AGAIN` steps at the soonest, or where the run seems to
    have ended.

    Args:
        capture: knows the newest calls.

    Attributes:
        is_end: what was told last may be the end of the run: no step has come between such losses, ever or for long.
    """

    def __init__(self, capture: Capture) -> None:
        self.is_end = False
        self._capture = capture
        self._logged: deque[tuple[int, ...]] = deque(maxlen=_REMEMBERED)
        self._made: tuple[int, ...] | None = None
        self._bad = 0
        self._newest: tuple[int, ...] | None = None
        self._survives = False
        self._ended_at: tuple[int, ...] | None = None
        self._silent_until = -1
        self._call = 0
        self._gradient: weakref.ref[Tensor] | None = None
        self._gathers = False

    def finite(self, made: tuple[int, ...]) -> None:
        """Take in a loss that is finite, as nearly all are.

        Args:
            made: steps made so far, for each optimizer.
        """
        self._logged.append(made)
        self._made = None

    def nonfinite(self, made: tuple[int, ...]) -> int:
        """Take in one that isn't.

        Args:
            made: as above.

        Returns:
            How many there have been in a row where that is to be told now, else 0.
        """
        self._logged.append(made)
        if made != self._made:
            self._made, self._bad = made, 0
        return self._count(made) if self._is_another_call() else 0

    def _count(self, made: tuple[int, ...]) -> int:
        self._bad += 1
        self._survives = self._survives or self._newest not in {None, made}
        self._newest = made
        self._look_at_gradients()
        needed = self._needed
        lasts = self._bad >= max(needed, _PATIENCE)
        is_silent = made == self._ended_at or (max(made) < self._silent_until and not lasts)
        if self._bad < needed or is_silent:
            return 0
        self.is_end = lasts or not self._survives
        self._ended_at = made if self.is_end else None
        self._silent_until = max(made) + AGAIN
        return self._bad

    @property
    def _needed(self) -> int:
        before = [len(list(some)) for made, some in groupby(self._logged) if made != self._made][-_RECENT:]
        if before:
            usual = sorted(before)[len(before) // 2]
            return max(LOSSES, 2 * usual + 1)
        return _PATIENCE if self._gathers else LOSSES

    def _is_another_call(self) -> bool:
        before, self._call = self._call, self._capture.newest_of_training()
        return self._call != before

    def _look_at_gradients(self) -> None:
        """Whether the same gradient stands there as at the last of these losses, so that nobody has cleared it."""
        found = self._capture.some_gradient()
        self._gathers = found is not None and self._gradient is not None and self._gradient() is found
        self._gradient = None if found is None else weakref.ref(found)
