"""Look at a run file again and again while somebody else writes it.

Only the file is asked, by ``stat``, and it is read when that says it changed: the training process is
never spoken to, and no connection stays open that could keep its log from being emptied.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from steadygrad.errors import RunFileError
from steadygrad.runfile.listing import RunSummary, summarise
from steadygrad.runfile.reader import Run
from steadygrad.runfile.schema import SIDE_FILES

Stamp = tuple[tuple[int, int, int, int] | None, ...]

DAMAGE = (RunFileError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, zlib.error)
"""What unpacking bytes that no steadygrad wrote can raise."""


class Follower:
    """One run file, read again whenever it changed.

    Args:
        path: the run file; it may not be there yet.
        keep_norms: whether the norms of the tensors stay in memory, which are most of a run's size.

    Attributes:
        path: its absolute path.
        run: the run as last read; None until there is one to be read.
        fault: why the file can't be read just now, in one sentence; empty where it can.

    Example:
        >>> follower = Follower("/nowhere/a.steady")
        >>> follower.look(), follower.run is None, follower.fault.partition(" (")[0]
        (True, True, 'no run can be read at /nowhere/a.steady')
    """

    def __init__(self, path: str | os.PathLike[str], *, keep_norms: bool = True) -> None:
        """Nothing is read before the first `look`."""
        self._keep_norms = keep_norms
        self.path = str(Path(os.fsdecode(path)).absolute())
        self.run: Run | None = None
        self.fault = ""
        self._seen: Stamp | None = None

    def look(self) -> bool:
        """Read the file if it changed since.

        Returns:
            Whether there is something new: rows, findings, an end, or another fault.
        """
        stamp = stamp_of(self.path)
        if stamp == self._seen:
            return False
        before = self.fault
        try:
            self.run = self._read(stamp)
        except RunFileError as error:
            self.fault, self._seen = str(error), None
            return self.fault != before
        except DAMAGE:
            self.fault, self._seen = f"{self.path} is damaged: its steps can't be unpacked.", None
            return self.fault != before
        self.fault, self._seen = "", stamp
        return True

    def _read(self, stamp: Stamp) -> Run:
        """The run as it is now; a file that took the place of another is another run."""
        same = self._seen is not None and _identity(self._seen) == _identity(stamp)
        run = self.run.refresh() if self.run is not None and same else Run(self.path)
        run.steps  # noqa: B018 -- unpacks all steps, so that what follows can rely on them
        return run if self._keep_norms else run.forget_norms()


class FolderFollower:
    """The runs in a folder, each looked at again when it changed.

    Args:
        folder: where they are written; it may not be there yet. Folders in it are not searched.

    Attributes:
        folder: its absolute path.
        runs: the runs, the newest first.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Nothing is read before the first `look`."""
        self.folder = str(Path(os.fsdecode(folder)).absolute())
        self.runs: Sequence[RunSummary] = ()
        self._seen: Mapping[str, tuple[Stamp, RunSummary | None]] = {}

    def look(self) -> bool:
        """Read what changed since.

        Returns:
            Whether a run came, went or changed.
        """
        seen = {path: self._summary(path) for path in _paths(self.folder)}
        if seen == self._seen:
            return False
        self._seen = seen
        found = [summary for _, summary in seen.values() if summary is not None]
        self.runs = sorted(found, key=lambda run: (run.started, run.path), reverse=True)
        return True

    def _summary(self, path: str) -> tuple[Stamp, RunSummary | None]:
        stamp, known = stamp_of(path), self._seen.get(path)
        return known if known is not None and known[0] == stamp else (stamp, summarise(path))


def names_a_run(place: Path) -> bool:
    """Whether a place is one run and no folder of runs; of places that aren't there yet, by the suffix."""
    return place.is_file() or (bool(place.suffix) and not place.is_dir())


def stamp_of(path: str) -> Stamp:
    """What ``stat`` says of a run file and its log; it changes whenever the run does."""
    return tuple(_stat(name) for name in (path, f"{path}-wal", f"{path}-journal"))


def _stat(path: str) -> tuple[int, int, int, int] | None:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _identity(stamp: Stamp) -> tuple[int, int] | None:
    return stamp[0][:2] if stamp[0] else None


def _paths(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            paths = [os.fsdecode(entry.path) for entry in entries if entry.is_file()]
    except OSError:
        return []
    return sorted(path for path in paths if not path.endswith(SIDE_FILES))
