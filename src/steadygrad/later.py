"""What plain steps and ordinary numbers have to tell, and may wait: a few at a time, in the order in which they came.

After a backward pass the processor's caches hold the training's numbers and nothing of ours, so the same code takes
three to five times as long as when it has just run.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

from steadygrad.records import Reading
from steadygrad.stepping import REPORTING, Track, settled_at_exit

MOST = 256
"""Entries that may wait; somebody may log in an evaluation between two steps, a number for each batch."""

Number = tuple[int, str, float]

PATIENCE_S = 1.0
"""Longest wait for another thread that tells just now: what it tells may be waiting for a lock that this one holds."""


class Later:
    """Keeps steps and numbers, and tells of them later.

    Args:
        step: told of each step.
        number: told of each number.
        told: told of each optimizer when some of its steps have been told.
        contained: calls what is ours so that no fault of it gets out.

    Attributes:
        behind: a step is being told of after which others have been made, or while another is under way: nothing may be
            done to the training now, and its state isn't that of the step.
    """

    def __init__(
        self,
        step: Callable[[Track, Reading], None],
        number: Callable[[int, str, float], None],
        told: Callable[[Track], None],
        contained: Callable[..., object],
    ) -> None:
        self.behind = False
        self._step, self._number, self._told = step, number, told
        self._waiting: list[tuple[Track, Reading] | Number] = []
        self._contained = contained
        self._telling = False
        # Somebody may ask from another thread while the training steps: the order of the steps is that of all it learns.
        self._one_at_a_time = threading.RLock()
        _alive.add(self)
        settled_at_exit(self)

    def __del__(self) -> None:
        """A training that is collected in the middle of a script loses nothing either."""
        if getattr(self, "_waiting", None):
            # Without the lock: nobody else knows it any more, and the collector may run in any thread.
            self._contained(REPORTING, self._tell_all, False)

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
        if not self._waiting or not self._one_at_a_time.acquire(timeout=PATIENCE_S):
            return
        try:
            self._contained(REPORTING, self._tell_all, ended)
        finally:
            self._one_at_a_time.release()

    def renew(self) -> None:
        """This is a fork, without the thread that may be telling."""
        self._one_at_a_time, self._telling, self.behind = threading.RLock(), False, False

    def _tell_all(self, ended: bool) -> None:  # noqa: FBT001 - called through a containment, which takes no names
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

    def _tell(self, *, ended: bool) -> list[Track]:
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
        return list(dict.fromkeys(entry[0] for entry in waiting if len(entry) == 2))


_alive: weakref.WeakSet[Later] = weakref.WeakSet()


def _renew_all() -> None:
    for later in tuple(_alive):
        later.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
