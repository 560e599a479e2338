"""The background thread: takes items from a queue and writes them.

The queue is the only thing the training's thread and this one share. The connection lives in the
thread's own frame alone: a forked child has no such thread, so nothing there can use or close it.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from steadygrad.errors import RunFileError
from steadygrad.runfile.claim import is_locked
from steadygrad.runfile.database import Stalled, describe
from steadygrad.runfile.store import Item, RunStore

_EXIT_TIMEOUT_S = 10.0
_PATIENCE_S = 60.0
_PENDING_BYTES = 64 * 2**20
_LEAST_PENDING = 4096
_BATCH_CELLS, _LEAST_BATCH = 65536, 64

_running: set[Recorder] = set()


class Recorder:
    """The queue of one run, and how its recording fares.

    Args:
        path: path of the run.
        tensors: number of tensors, which bounds what may wait in memory.
        chunk_steps: items that wake the thread.
        flush_s: longest that an item waits.

    Attributes:
        fault: why recording ended; None while it goes on.
        on_fault: called once with the first thing that went wrong.
        path: path of the run.
    """

    def __init__(self, path: str, tensors: int, chunk_steps: int, flush_s: float) -> None:
        """Start with an empty queue and no thread."""
        self.fault: str | None = None
        self.on_fault: Callable[[str], None] | None = None
        self.path = path
        self._queue: deque[Item | threading.Event] = deque()
        self._pending_limit = max(_LEAST_PENDING, _PENDING_BYTES // (200 + 4 * tensors))
        self._batch = max(_LEAST_BATCH, _BATCH_CELLS // max(1, tensors))
        # Woken a little early: what comes in while it writes must not exceed the chunk.
        self._wake_every = max(1, 3 * chunk_steps // 4)
        self._flush_s = flush_s
        self._wake = threading.Event()
        self._closing = self._forsaken = False
        self._told = False
        self._stalled_since: float | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def inert(self) -> bool:
        """Whether items are no longer taken: closed, failed, or in a forked child."""
        return self._closing or self.fault is not None or not self.owned

    @property
    def owned(self) -> bool:
        """Whether this is the process that made the run, not a fork of it."""
        return os.getpid() == self._pid

    @property
    def can_wait(self) -> bool:
        """Whether this thread may wait for the other."""
        return self.owned and self._thread is not None and threading.current_thread() is not self._thread

    @property
    def stalled(self) -> bool:
        """Whether the file can't be written just now."""
        return self._stalled_since is not None

    def start(self, store: RunStore) -> None:
        """Start the thread, which alone uses ``store`` from here on."""
        self._thread = threading.Thread(
            target=_record, args=(self, store), name="steadygrad-run", daemon=True
        )
        _running.add(self)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue one item; never blocks, never raises."""
        # `inert`, without the two calls: this is done at every step.
        if self._closing or self.fault is not None or os.getpid() != self._pid:
            return
        self._queue.append(item)
        waiting = len(self._queue)
        if waiting % self._wake_every == 0:
            self._wake.set()
            if waiting > self._pending_limit:
                self.fail(f"{self.path} could not be written for too long; recording ends.")

    def wait_written(self, timeout_s: float) -> bool:
        """Have everything queued so far written; True where that was done in time."""
        if not self.can_wait or self._thread is None:
            return False
        written = threading.Event()
        self._queue.append(written)
        self._wake.set()
        deadline = time.monotonic() + timeout_s
        while not written.wait(min(0.1, max(0.0, deadline - time.monotonic()))):
            if not self._thread.is_alive() or time.monotonic() >= deadline:
                break
        return written.is_set() and self.fault is None

    def request_stop(self) -> None:
        """Let the thread write what is queued, close the file and end."""
        self._closing = True
        self._wake.set()

    def forsake(self) -> None:
        """The same, soon: what is collected together with the run's writer may have a last word."""
        self._forsaken = True
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread after `request_stop`."""
        if not self.can_wait or self._thread is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self.fault is None:
            self.fail(f"{self.path} could not be written in {timeout_s:g} s; its newest steps are missing.")

    def fail(self, reason: str) -> None:
        """End the recording for a reason."""
        self.fault = reason
        self._wake.set()
        self.tell(reason)

    def tell(self, line: str) -> None:
        """Call ``on_fault``, the first time only."""
        if self._told:
            return
        self._told = True
        if self.on_fault is not None:
            with suppress(Exception):
                self.on_fault(line)

    def wait_for_work(self) -> bool:
        """Wait until there is something to do; False once all is done and the end was asked for."""
        if not self._closing and len(self._queue) < self._wake_every:
            self._wake.wait(self._flush_s)
        elif self.stalled:
            time.sleep(min(0.1, self._flush_s))
        self._wake.clear()
        if self._forsaken and not self._queue and not self._closing:
            self._closing = not self._wake.wait(self._flush_s)
        return bool(self._queue) or not self._closing

    def write_queued(self, store: RunStore) -> None:
        """Write what is queued, batch by batch; on a lock it stays queued."""
        while self._queue and self.fault is None:
            taken = [self._queue[index] for index in range(min(self._batch, len(self._queue)))]
            items = [item for item in taken if not isinstance(item, threading.Event)]
            try:
                if items:
                    store.write(items)
            except (Stalled, sqlite3.Error) as error:
                if isinstance(error, sqlite3.Error) and not is_locked(error):
                    raise
                self._stall(error)
                return
            self._stalled_since = None
            for item in taken:
                self._queue.popleft()
                if isinstance(item, threading.Event):
                    item.set()

    def release_waiting(self) -> None:
        """Let nobody wait for a thread that has ended."""
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, threading.Event):
                item.set()

    def _stall(self, error: Exception) -> None:
        now = time.monotonic()
        self._stalled_since = self._stalled_since or now
        if now - self._stalled_since > _PATIENCE_S:
            why = str(error) if isinstance(error, Stalled) else "another program holds a lock on it"
            self.tell(f"{self.path} can't be written: {why}; steps wait in memory until it lets go.")


def _record(recorder: Recorder, store: RunStore) -> None:
    """Body of the thread."""
    try:
        while recorder.fault is None and recorder.wait_for_work():
            recorder.write_queued(store)
        if recorder.fault is None:
            store.finish()
    except RunFileError as error:
        recorder.fail(f"recording ended: {error}")
    except Exception as error:  # noqa: BLE001 -- a fault of the recording must never reach the training
        recorder.fail(f"recording ended: {describe(error, recorder.path)}")
    finally:
        store.abandon()
        recorder.release_waiting()
        _running.discard(recorder)


def _finish_all() -> None:
    """At interpreter exit: a script that just ends loses nothing."""
    for recorder in tuple(_running):
        if recorder.owned:
            recorder.request_stop()
    for recorder in tuple(_running):
        recorder.join(_EXIT_TIMEOUT_S)


atexit.register(_finish_all)
