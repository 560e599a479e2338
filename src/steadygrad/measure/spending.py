"""What steadygrad costs the training's own thread, as a share of the time that passes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

RARE_SHARE = 0.4
"""Share of the overhead for what isn't done at every step: copies 0.2, update probes 0.1, looks inside the model 0.1."""
LEAST_ROOM = 0.25
"""Part of that which is left to it however dear the rest is: a small model must be copied now and then too."""


_LEAST_S = 1e-6


class Spending:
    """Adds up the seconds spent in steadygrad's hooks.

    It is the host's time: what the hooks queue on an accelerator runs beside it, and so does the thread that
    writes the run file.

    Args:
        clock: seconds, monotonic.

    The training's own time is that of its steps, each from its first forward pass (where none is heard, from the end of the
    step before) to its end, and of what passes before as much again at most: the next batch is made there. A step that takes more
    than twice as long as the one before it counts as twice as long: an evaluation may have come between that records gradients.
    So in an evaluation, or while another training has its turn in the same process, nothing is earned that could be spent on copies.

    Attributes:
        spent_s: seconds since the beginning; whoever spends adds to it.
        rare_s: those of them that went into what isn't done at every step.
        clock: the same.

    Example:
        >>> ticks = iter([0.0, 2.0])
        >>> spending = Spending(lambda: next(ticks))
        >>> spending.spent_s += 0.5
        >>> spending.share()
        0.25
    """

    __slots__ = (
        "_asked_s",
        "_before_s",
        "_began_s",
        "_ended_s",
        "_open_s",
        "_trained_s",
        "_usual_s",
        "clock",
        "rare_s",
        "spent_s",
    )

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.spent_s = self.rare_s = self._before_s = 0.0
        self._began_s = self._asked_s = self._ended_s = clock()
        self._open_s: float | None = None
        self._trained_s = 0.0
        self._usual_s = math.inf

    def passed(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self._began_s

    def forward(self) -> None:
        """A forward pass of the training begins: if it is the step's first one, so does the step."""
        if self._open_s is None:
            self._open_s = self.clock()

    def step_ended(self) -> None:
        """A step has ended."""
        now_s = self.clock()
        began_s = self._ended_s if self._open_s is None else self._open_s
        own_s = min(now_s - began_s, 2.0 * self._usual_s)
        self._usual_s = max(own_s, _LEAST_S)  # from nothing there is no doubling
        self._trained_s += own_s + min(own_s, began_s - self._ended_s)
        self._ended_s, self._open_s = now_s, None

    def trained(self) -> float:
        """Seconds that the training's steps have taken, the one under way included.

        Example:
            >>> ticks = iter([0.0, 0.5, 2.5, 9.5, 10.5])
            >>> spending = Spending(lambda: next(ticks))
            >>> spending.forward(), spending.step_ended()  # from 0.5 to 2.5, and what was before
            (None, None)
            >>> spending.forward(), spending.step_ended()  # from 9.5 to 10.5, and 1 of the 7 seconds before
            (None, None)
            >>> spending.trained()
            4.5
        """
        if self._open_s is None:
            return self._trained_s
        return self._trained_s + min(self.clock() - self._open_s, 2.0 * self._usual_s)

    def room(self, overhead: float) -> float:
        """Part of `RARE_SHARE` that the work of every step leaves free within an overhead, `LEAST_ROOM` to 1.

        Example:
            >>> ticks = iter([0.0, 100.0])
            >>> spending = Spending(lambda: next(ticks))
            >>> spending.step_ended()
            >>> spending.spent_s, spending.rare_s = 2.0, 0.4
            >>> round(spending.room(0.02), 3)
            0.5
        """
        trained_s = self.trained()
        if trained_s <= 0.0 or overhead <= 0.0:
            return 1.0
        free = 1.0 - (self.spent_s - self.rare_s) / (trained_s * overhead)
        return min(1.0, max(LEAST_ROOM, free / RARE_SHARE))

    def share(self) -> float:
        """Share of the time since it was last asked that was spent here; 0 where no time has passed."""
        now_s, spent_s = self.clock(), self.spent_s
        passed_s, fresh_s = now_s - self._asked_s, spent_s - self._before_s
        self._asked_s, self._before_s = now_s, spent_s
        return fresh_s / passed_s if passed_s > 0.0 else 0.0
