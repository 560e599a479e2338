"""What may wait is put off and done for a few steps in a row.

After a backward pass the processor's caches hold the training's numbers and nothing of ours, so the same code takes
three to five times as long as when it has just run. A step that is left alone as a matter of course has nothing to
tell that couldn't wait for the next ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from steadygrad.policies.base import PUT_OFF
from steadygrad.records import Reading


class Arrears:
    """Readings that wait to be taken in, oldest first, at most `PUT_OFF` of them.

    Args:
        take: takes one in.

    Example:
        >>> import numpy as np
        >>> taken = []
        >>> arrears = Arrears(lambda reading: taken.append(reading.step))
        >>> for step in range(PUT_OFF + 1):
        ...     arrears.add(Reading(step, np.zeros(0), 1.0))
        >>> taken
        [0, 1, 2, 3, 4, 5, 6, 7]
        >>> arrears.settle()
        >>> taken
        [0, 1, 2, 3, 4, 5, 6, 7, 8]
    """

    __slots__ = ("_take", "_waiting")

    def __init__(self, take: Callable[[Reading], None]) -> None:
        self._take = take
        self._waiting: list[Reading] = []

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        return len(self._waiting) >= PUT_OFF

    def add(self, reading: Reading) -> None:
        """Let one wait; those before it are taken in first where they are too many."""
        if len(self._waiting) >= PUT_OFF:
            self.settle()
        self._waiting.append(reading)

    def settle(self) -> None:
        """Take in all that wait."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for reading in waiting:
            self._take(reading)


def is_plain(reading: Reading) -> bool:
    """Whether nothing was done to the step, nothing is ill, and nothing but its gradients was measured."""
    return (
        not reading.skipped
        and reading.clip_coef == 1.0
        and reading.lr_factor == 1.0
        and reading.param_norms is None
        and reading.update_norms is None
        and math.isfinite(reading.total_norm)
    )
