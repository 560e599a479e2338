"""What plain steps and ordinary numbers have to tell, and may wait: a few at a time, in the order in which they came.

After a backward pass the processor's caches hold the training's numbers and nothing of ours, so the same code takes
three to five times as long as when it has just run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from steadygrad.records import Reading
from steadygrad.stepping import Track, settled_at_exit

MOST = 256
"""Entries that may wait; somebody may log in an evaluation between two steps, a number for each batch."""

Number = tuple[int, str, float]

# Somebody may ask from another thread while the training steps: the order of the steps is that of all it learns.
_one_at_a_time = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child must not inherit it locked by a thread that it hasn't got
    os.register_at_fork(
        before=_one_at_a_time.acquire,
        after_in_parent=_one_at_a_time.release,
        after_in_child=_one_at_a_time.release,
    )


class Later:
    """Keeps steps and numbers, and tells of them later.

    Args:
        step: told of each step.
        number: told of each number.
        told: told of each optimizer when some of its steps have been told.

    Attributes:
        behind: a step is being told of after which others have been made, or while another is under way: nothing may be
            done to the training now, and its state isn't that of the step.
    """

    def __init__(
        self,
        step: Callable[[Track, Reading], None],
        number: Callable[[int, str, float], None],
        told: Callable[[Track], None],
    ) -> None:
        self.behind = False
        self._step, self._number, self._told = step, number, told
        self._waiting: list[tuple[Track, Reading] | Number] = []
        self._telling = False
        settled_at_exit(self)

    def __del__(self) -> None:
        """A training that is collected in the middle of a script loses nothing either."""
        if getattr(self, "_waiting", None):
            self.settle()

    def add(self, entry: tuple[Track, Reading] | Number) -> None:
        """Keep one."""
        self._waiting.append(entry)
        if len(self._waiting) > MOST:
            self.settle()

    def settle(self, *, ended: bool = False) -> None:
        """Tell of all that wait.

        Args:
            ended: the newest of these steps has just ended, and no other has begun.
        """
        with _one_at_a_time:
            # Who is being told of a step may ask in turn, and is to know what came before that step and not more.
            if not self._waiting or self._telling:
                return
            self._telling = True
            try:
                tracks = self._tell(ended=ended)
            finally:
                self._telling = False
            for track in tracks:
                self._told(track)

    def _tell(self, *, ended: bool) -> set[Track]:
        waiting, self._waiting = self._waiting, []
        last = (
            max((i for i, entry in enumerate(waiting) if len(entry) == 2), default=0)
            if ended
            else len(waiting)
        )
        told = 0
        try:
            for told, entry in enumerate(waiting, 1):
                self.behind = told - 1 < last
                if len(entry) == 2:
                    self._step(*entry)
                else:
                    self._number(*entry)
        finally:
            self.behind = False
            self._waiting[:0] = waiting[told:]
        return {entry[0] for entry in waiting if len(entry) == 2}
