"""The SQLite connection of the writer: creation, log, size, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import disk_usage
from typing import Any

from steadygrad.errors import RunFileError, UsageError
from steadygrad.records import RunInfo
from steadygrad.runfile.claim import claim, is_locked, network_kind
from steadygrad.runfile.facts import Tail, info_bytes, tail_text, tensors_bytes
from steadygrad.runfile.schema import APPLICATION_ID, INFO_ROW, TABLES, TAIL_ROW, TENSORS_ROW, VERSION

BUSY_TIMEOUT_S = 0.25
_SMALL_PAGE, _LARGE_PAGE, _MANY_TENSORS = 512, 4096, 64
_LEAST_CAP, _LEAST_CAP_PER_TENSOR = 256 * 1024, 1024
_MAX_LOG_BYTES = 4 * 2**20
# SQLite asks for 32 kB of shared memory at once; with the first pages and the log a run begins in less than this.
_LEAST_ROOM = 64 * 1024
_TRIES, _BETWEEN_TRIES_S = 5, 0.02


class Stalled(Exception):
    """The file can't be written now; the reason is in the message."""


class Database:
    """One new run file, open for writing; used by one thread at a time.

    Args:
        wanted: path asked for; ``path`` is the one taken.
        info: what the run is.
        size_cap_bytes: most that file and log may take together.

    Raises:
        RunFileError: where the file can't be made.
        UsageError: for a cap too small to hold the run's tensors.
    """

    def __init__(self, wanted: str | os.PathLike[str], info: RunInfo, size_cap_bytes: int) -> None:
        """Claim the path and write the run's start."""
        _check_cap(size_cap_bytes, len(info.tensors))
        rows = (
            (INFO_ROW, "info", info_bytes(info)),
            (TENSORS_ROW, "tensors", tensors_bytes(info.tensors)),
            (TAIL_ROW, "tail", tail_text(Tail(last_written=info.started))),
        )
        self._page_size = _SMALL_PAGE if len(info.tensors) < _MANY_TENSORS else _LARGE_PAGE
        self.path = claim(str(Path(os.fsdecode(wanted)).absolute()))
        self.notice: str | None = None
        self._log_cap = min(size_cap_bytes // 4, _MAX_LOG_BYTES)
        try:
            self.connection = self._create(rows)
            self._logged = self._turn_on_log()
            self._identity = _identity(self.path)
        except (sqlite3.Error, OSError) as error:
            told = describe(error, self.path)
            for left in ("", "-wal", "-shm"):
                with suppress(OSError):
                    Path(self.path + left).unlink()
            raise RunFileError(f"can't write the run file: {told}") from None
        self.budget_bytes = size_cap_bytes - self._log_cap - self._page_size * 8

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; afterwards the log is kept short."""
        self._check_room()
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
            raise
        if self._log_bytes() > self._log_cap // 2:
            self._truncate_log()

    def check_present(self) -> None:
        """Notice a file that was removed or replaced: SQLite itself would write on into nowhere.

        Raises:
            RunFileError: where it was.
        """
        if _identity(self.path) != self._identity:
            raise RunFileError(f"{self.path} was removed or replaced.")
        if self._logged and not Path(f"{self.path}-wal").exists():
            raise RunFileError(f"{self.path}-wal, the log of the run file, was removed.")

    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        pages = self._pragma("page_count") - self._pragma("freelist_count")
        return int(pages * self._page_size)

    def close(self) -> None:
        """Give free pages back and make it a plain file that opens on a read-only medium too."""
        self._turn_off_log()
        with suppress(sqlite3.Error):
            while self._pragma("freelist_count"):
                self.connection.execute("PRAGMA incremental_vacuum").fetchall()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        with suppress(sqlite3.Error):
            self.connection.close()

    def _create(self, rows: Sequence[tuple[int, str, bytes | str]]) -> sqlite3.Connection:
        connection = sqlite3.connect(
            Path(self.path).as_uri() + "?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute(f"PRAGMA page_size={self._page_size}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={VERSION}")
        for table in TABLES:
            connection.execute(table)
        connection.executemany("INSERT INTO run VALUES (?,?,?)", rows)
        connection.execute("COMMIT")
        return connection

    def _turn_on_log(self) -> bool:
        """Write-ahead log where it can be had; it needs memory that readers and writer share."""
        self.connection.execute("PRAGMA synchronous=NORMAL")
        network = network_kind(os.path.realpath(self.path))
        if network is None:
            mode = self.connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            self.connection.execute("PRAGMA wal_autocheckpoint=0")
            if mode == "wal":
                # The first write makes the log, so that a missing one means that it was removed.
                self.connection.execute("UPDATE run SET value=value WHERE id=?", (TAIL_ROW,))
                return True
        where = f"a network file system ({network})" if network else "a file system without shared memory"
        self.notice = (
            f"{self.path} is on {where}: recording works, but reading it while it is written may wait. "
            "A run on a local disk is safer."
        )
        return False

    def _turn_off_log(self) -> None:
        """Whoever looks at the file at this moment (a run of the same name that begins) is gone at once."""
        for _ in range(_TRIES):
            with suppress(sqlite3.Error):
                if self.connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0] != "wal":
                    return
            time.sleep(_BETWEEN_TRIES_S)

    def _pragma(self, name: str) -> Any:
        return self.connection.execute(f"PRAGMA {name}").fetchone()[0]

    def _log_bytes(self) -> int:
        try:
            return Path(f"{self.path}-wal").stat().st_size if self._logged else 0
        except OSError:
            return 0

    def _truncate_log(self) -> None:
        with suppress(sqlite3.OperationalError):  # a reader in the way; the next commit tries again
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _check_room(self) -> None:
        if self._log_bytes() > self._log_cap // 2:
            self._truncate_log()
            if self._log_bytes() > self._log_cap // 2:
                raise Stalled("another program reads it without a pause, so its log can't shrink")


def describe(error: Exception, path: str) -> str:
    """What an error means, in one sentence with the path."""
    text = str(error)
    if isinstance(error, sqlite3.Error) and is_locked(error):
        return f"{path} is locked by another program."
    # SQLite calls it an I/O error where the memory that it shares with readers found no room.
    if "full" in text or getattr(error, "errno", None) == 28 or ("I/O" in text and not _has_room(path)):
        return f"the disk of {path} is full."
    if isinstance(error, RunFileError):
        return text
    return f"{path}: {text or type(error).__name__}."


def _has_room(path: str) -> bool:
    try:
        return disk_usage(Path(path).parent).free >= _LEAST_ROOM
    except OSError:
        return True


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check_cap(size_cap_bytes: int, tensors: int) -> None:
    least = _LEAST_CAP + _LEAST_CAP_PER_TENSOR * tensors
    if size_cap_bytes < least:
        raise UsageError(
            f"size_cap_bytes={size_cap_bytes}: a run of {tensors} tensors needs at least {least} bytes."
        )
