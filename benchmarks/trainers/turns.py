"""Two trainings in one process that take turns, a block of steps each, so that load falls on both alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Training = Callable[[Callable[[], None]], None]
"""Trains to the end, and calls what it is given at the beginning of each step."""


class Turns:
    """Has trainings step in turn, and takes the processor time of every block.

    Processor time of the whole process: threads that write a run file or copy a state are a part of the cost.

    Args:
        block: steps in a row.
    """

    def __init__(self, block: int) -> None:
        self._block = block
        self._turns = [threading.Semaphore(0), threading.Semaphore(0)]
        self._counts = [0, 0]
        self._over = [False, False]
        self._began_s = 0.0
        self._errors: list[BaseException] = []
        self.blocks_s: tuple[list[float], list[float]] = ([], [])

    def run(self, first: Training, second: Training) -> None:
        """Run both to their ends."""
        threads = [
            threading.Thread(target=self._train, args=(who, training))
            for who, training in enumerate((first, second))
        ]
        for thread in threads:
            thread.start()
        self._turns[0].release()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _train(self, who: int, training: Training) -> None:
        self._turns[who].acquire()
        try:
            training(lambda: self._step(who))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever has started the thread
            self._errors.append(error)
        self._over[who] = True
        self._turns[1 - who].release()

    def _step(self, who: int) -> None:
        """A step begins: the block before it may be whole."""
        self._counts[who] += 1
        if self._counts[who] % self._block != 1:
            return
        if self._counts[who] > 1:
            self.blocks_s[who].append(time.process_time() - self._began_s)
        if not self._over[1 - who]:
            self._turns[1 - who].release()
            self._turns[who].acquire()
        self._began_s = time.process_time()
