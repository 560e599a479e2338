"""A file is replaced whole or not at all, whenever the process dies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def partial_path(path: Path, writer: str = "") -> Path:
    """Where the new contents are written first: beside the file, since a rename can't leave a file system."""
    return path.with_name(f".{path.name}{writer}.partial")


@contextmanager
def replacing(path: Path, accept: Callable[[Path], bool], writer: str = "") -> Iterator[Path]:
    """Write to the path given inside; on the way out it takes the place of ``path``, if it is accepted.

    The contents are on the disk before the name points to them, and the name is before this returns. An
    exception, or a kill at any instant, leaves the old file as it was, and at most one partial file that
    the next call overwrites.

    Args:
        path: the file to replace; its folder is made where it is missing.
        accept: asked about what was written; where it says no, the old file stays.
        writer: who writes, where several processes may write the same file: each writes its own, and the last holds.

    Yields:
        The path to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = partial_path(path, writer)
    fresh.unlink(missing_ok=True)
    try:
        yield fresh
        if accept(fresh):
            synchronise(fresh)
            fresh.replace(path)
            synchronise(path.parent)
        fresh.unlink(missing_ok=True)
    except BaseException:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def synchronise(path: Path) -> None:
    """Have a file or a folder reach the disk."""
    # A folder can be opened and synchronised on POSIX only; elsewhere a rename is as safe as it gets.
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
