"""Bundles go to disk in the background: whole or not at all, within bounds, and never in the training's way."""

from __future__ import annotations

import shutil
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch

from steadygrad.bundles import FACTS, STATE, STEP
from steadygrad.recover.atomic import synchronise
from steadygrad.recover.evidence import Evidence
from steadygrad.runfile.finite import dumps

WAITING = 2
"""Bundles that may wait while one is written: each holds a copy of the state."""
_PARTIAL = ".partial"


class BundleWriter:
    """Writes the bundles of one run, one after the other, by a thread that lives as long as there are some.

    Args:
        folder: where they go; made with the first.
        max_bytes: most bytes of all together: the oldest make room.
        say: one line for a person, called from any thread.
    """

    def __init__(self, folder: Path, max_bytes: float, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.fault: str | None = None
        self._max_bytes = max_bytes
        self._say = say
        self._waiting: deque[Evidence] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, evidence: Evidence) -> bool:
        """Have a bundle written; returns whether it will be: not after a fault, nor while too many wait."""
        if self.fault is not None:
            return False
        with self._lock:
            if len(self._waiting) >= WAITING:
                return False
            self._waiting.append(evidence)
            if self._thread is None or not self._thread.is_alive():
                # Not a daemon: the last bundle is that of an error that ends the process.
                self._thread = threading.Thread(target=self._work, name="steadygrad bundles")
                self._thread.start()
        return True

    def wait(self) -> None:
        """Until everything is written."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                evidence = self._waiting.popleft()
            try:
                self._write(evidence)
            except Exception as fault:  # noqa: BLE001 - a full disk, a folder that is gone: the training goes on
                self._end(fault)

    def _end(self, fault: Exception) -> None:
        self.fault = f"{type(fault).__name__}: {fault}".partition("\n")[0]
        with self._lock:
            self._waiting.clear()
        self._say(
            f"no more incident bundles in {self.folder} ({self.fault}). The training and its run file go on."
        )

    def _write(self, evidence: Evidence) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = _free_name(self.folder, evidence)
        partial = self.folder / f".{name}{_PARTIAL}"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            _fill(partial, evidence)
            _make_room(self.folder, self._max_bytes - _size(partial))
            partial.rename(self.folder / name)
            synchronise(self.folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _fill(folder: Path, evidence: Evidence) -> None:
    torch.save(evidence.step, folder / STEP)
    if evidence.state is not None:
        torch.save(evidence.state, folder / STATE)
    (folder / FACTS).write_text(dumps(evidence.facts), encoding="utf-8")
    for path in folder.iterdir():
        if path.suffix == ".pt":
            torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        synchronise(path)
    synchronise(folder)


def _free_name(folder: Path, evidence: Evidence) -> str:
    plain = f"step-{evidence.facts['step']:06d}"
    names = (plain, f"{plain}-{evidence.facts['action']}", *(f"{plain}-{count}" for count in range(2, 1000)))
    return next(name for name in names if not (folder / name).exists())


def _make_room(folder: Path, allowed: float) -> None:
    """Remove the oldest bundles until the others take no more than ``allowed``."""
    found = sorted(folder.glob("step-*"), key=lambda path: path.stat().st_mtime_ns)
    sizes = [_size(path) for path in found]
    total = sum(sizes)
    for path, size in zip(found, sizes, strict=True):
        if total <= allowed:
            return
        shutil.rmtree(path, ignore_errors=True)
        total -= size


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
