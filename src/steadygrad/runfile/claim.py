"""Find a path for a new run without ever touching somebody else's file.

Existing files are looked at through SQLite only: opening a database by other means and closing it
again would drop the locks this process may hold on it (POSIX locks belong to the process).
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Literal

from steadygrad.errors import RunFileError
from steadygrad.runfile.schema import APPLICATION_ID

Kind = Literal["run", "empty", "busy", "foreign"]

_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "afs",
    "9p",
    "sshfs",
    "glusterfs",
    "pvfs",
)
_MOUNTS = "/proc/self/mounts"


def claim(wanted: str) -> str:
    """Create an empty file at ``wanted``, or at ``name-2``, ``name-3``... beside older runs.

    Args:
        wanted: absolute path; missing folders are made.

    Returns:
        The path of the new file, of size 0.

    Raises:
        RunFileError: where the folder or file can't be made, or something else lies there.
    """
    folder = Path(wanted).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFileError(
            f"can't make the folder {folder} for the run ({error.strerror}). Choose a path that can be written."
        ) from None
    start = Path(wanted)
    for number in count(1):
        path = wanted if number == 1 else str(start.with_name(f"{start.stem}-{number}{start.suffix}"))
        if _create(path):
            return path
    raise AssertionError  # pragma: no cover -- count() never ends


def _create(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o644))
    except FileExistsError:
        if Path(path).is_dir():
            raise RunFileError(f"{path} is a folder; a run needs a path to a file in it.") from None
        if not Path(path).is_file():
            raise RunFileError(
                f"{path} {_what_is_there(path)}, and a run needs a file of its own. Choose another path."
            ) from None
        if kind_of(path) == "foreign":
            raise RunFileError(
                f"{path} exists and is not a steadygrad run; it was left alone. Choose another path."
            ) from None
        return False
    except OSError as error:
        raise RunFileError(
            f"can't create the run file {path} ({error.strerror}). Choose a path that can be written."
        ) from None
    return True


def _what_is_there(path: str) -> str:
    """What lies at a path that is neither a file nor a folder: it must not even be opened, a pipe would wait for ever."""
    if not Path(path).exists():
        return "is a link that leads nowhere"
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return f"is a {kinds.get(stat.S_IFMT(Path(path).stat().st_mode), 'device')}"


def kind_of(path: str) -> Kind:
    """Tell what lies at ``path``; ``empty`` and ``busy`` may be a run that is being created."""
    try:
        with closing(sqlite3.connect(Path(path).as_uri() + "?mode=ro", uri=True, timeout=0.2)) as connection:
            # One look: between two, another process may have written what makes it a run.
            connection.execute("BEGIN")
            if connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
                return "run"
            # Pages alone say nothing: a run that is being created has its first before its tables.
            has_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
            return "foreign" if has_tables else "empty"
    except sqlite3.Error as error:
        return "busy" if is_locked(error) else "foreign"


def is_locked(error: sqlite3.Error) -> bool:
    """Whether another program's lock is the reason."""
    return isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "busy" in str(error))


def network_kind(path: str, mounts: str | None = None) -> str | None:
    """Type of the network file system that ``path`` is on; None for a local one, or unknown.

    Args:
        path: absolute path.
        mounts: text in the form of ``/proc/self/mounts``; None reads that file.

    Returns:
        The type, such as ``nfs4``.

    Example:
        >>> network_kind("/home/ada/a.steady", "server:/home /home nfs4 rw 0 0")
        'nfs4'
    """
    if mounts is None:
        try:
            mounts = Path(_MOUNTS).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    best, kind = "", None
    for line in mounts.splitlines():
        parts = line.split()
        point = parts[1].replace("\\040", " ") if len(parts) > 2 else ""
        if point and len(point) >= len(best) and f"{path}/".startswith(point.rstrip("/") + "/"):
            best, kind = point, parts[2]
    found = kind is not None and any(word in kind.lower() for word in _NETWORK)
    return kind if found else None
