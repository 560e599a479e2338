"""What steadygrad costs the training's own thread, as a share of the time that passes."""

from __future__ import annotations

import time
from collections.abc import Callable


class Spending:
    """Adds up the seconds spent in steadygrad's hooks.

    It is the host's time: what the hooks queue on an accelerator runs beside it, and so does the thread that
    writes the run file.

    Args:
        clock: seconds, monotonic.

    Attributes:
        spent_s: seconds since the beginning; whoever spends adds to it.
        clock: the same.

    Example:
        >>> ticks = iter([0.0, 2.0])
        >>> spending = Spending(lambda: next(ticks))
        >>> spending.spent_s += 0.5
        >>> spending.share()
        0.25
    """

    __slots__ = ("_asked_s", "_before_s", "_began_s", "clock", "spent_s")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.spent_s = self._before_s = 0.0
        self._began_s = self._asked_s = clock()

    def passed(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self._began_s

    def share(self) -> float:
        """Share of the time since it was last asked that was spent here; 0 where no time has passed."""
        now_s, spent_s = self.clock(), self.spent_s
        passed_s, fresh_s = now_s - self._asked_s, spent_s - self._before_s
        self._asked_s, self._before_s = now_s, spent_s
        return fresh_s / passed_s if passed_s > 0.0 else 0.0
