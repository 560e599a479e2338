"""Open a run for reading: while it is written, after a kill, or on a read-only medium."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from steadygrad.errors import NotARunFile, RunFileError
from steadygrad.runfile.claim import is_locked
from steadygrad.runfile.schema import APPLICATION_ID, SIDE_FILES, VERSION

_NEEDS_WRITING = ("unable to open database file", "readonly database")


@contextmanager
def reading(path: str, timeout_s: float = 5.0) -> Iterator[sqlite3.Connection]:
    """A read-only view of the run as it is now; the writer is never made to wait.

    Args:
        path: the run file.
        timeout_s: how long to wait for a lock.

    Yields:
        A connection inside one read transaction.

    Raises:
        NotARunFile: for a file that is no run, or only a part of one.
        RunFileError: where it is missing, locked, or of a newer layout.
    """
    _check_file(path)
    try:
        with _connected(path, timeout_s) as connection:
            yield connection
    except sqlite3.Error as error:
        raise _explain(error, path) from None
    except (zlib.error, ValueError):
        raise NotARunFile(f"{path} is damaged: what it says about the run can't be unpacked.") from None


@contextmanager
def _connected(path: str, timeout_s: float) -> Iterator[sqlite3.Connection]:
    with ExitStack() as open_things:
        connection = open_things.enter_context(closing(_connect(path, timeout_s)))
        try:
            _begin(connection, path)
        except sqlite3.OperationalError as error:
            if not any(text in str(error) for text in _NEEDS_WRITING):
                raise
            # A killed run on a read-only medium: its log can only be read where it can be locked.
            scratch = open_things.enter_context(tempfile.TemporaryDirectory(prefix="steadygrad-"))
            connection = open_things.enter_context(closing(_connect(_copy(path, scratch), timeout_s)))
            _begin(connection, path)
        yield connection


def _connect(path: str, timeout_s: float) -> sqlite3.Connection:
    uri = Path(path).as_uri() + "?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)


def _copy(path: str, folder: str) -> str:
    target = str(Path(folder) / "run")
    shutil.copyfile(path, target)
    for suffix in SIDE_FILES:
        if suffix != "-shm" and Path(path + suffix).exists():
            shutil.copyfile(path + suffix, target + suffix)
    return target


def _begin(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise NotARunFile(f"{path} is a file of another program, not a steadygrad run.")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise RunFileError(
            f"{path} was written by a newer steadygrad (layout {version}; this one reads up to {VERSION}). "
            "Upgrade steadygrad: pip install -U steadygrad."
        )
    connection.execute("SELECT count(*) FROM run").fetchone()


def _check_file(path: str) -> None:
    if Path(path).is_dir():
        raise RunFileError(f"{path} is a folder; expected the path of a run file in it.")
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise RunFileError(f"no run can be read at {path} ({error.strerror}). Check the path.") from None
    if size == 0:
        raise NotARunFile(f"{path} is empty, so it holds no steadygrad run (or one that begins just now).")


def _explain(error: sqlite3.Error, path: str) -> RunFileError:
    text = str(error)
    if is_locked(error):
        return RunFileError(f"{path} is locked by another program; try again when that is done.")
    if "not a database" in text:
        return NotARunFile(f"{path} is not a steadygrad run (it is no SQLite file).")
    if "malformed" in text or "no such table" in text:
        return NotARunFile(f"{path} is damaged or cut off ({text}), so it can't be read as a steadygrad run.")
    return RunFileError(f"{path} can't be read: {text}.")
