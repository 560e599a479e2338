"""A folder that several processes write is replaced whole or not at all, whenever one of them dies.

A folder can't be renamed over another. So the path is a symbolic link to one of two folders beside it: the other one
is written, and then the link is exchanged, which is one step for the file system. A kill at any instant leaves the
link on a folder that is whole, and at most one that isn't, which the next call empties.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from steadygrad.errors import UsageError
from steadygrad.recover.atomic import synchronise


def free_slot(path: Path) -> Path:
    """Where the next contents of ``path`` are written.

    Raises:
        UsageError: a folder of somebody else's is there.
    """
    first, second = (path.with_name(f".{path.name}.{number}") for number in (0, 1))
    if not path.is_symlink():
        if path.is_dir() and any(path.iterdir()):
            raise UsageError(
                f"{path}: expected a path where nothing is, or a checkpoint that a guard has written; this is a folder of "
                "another kind. Give another path, or move it away."
            )
        return first
    return second if path.readlink().name == first.name else first


def clear(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def publish(slot: Path, path: Path) -> None:
    """Have ``path`` lead to what was written, and remove what was there before.

    Args:
        slot: the `free_slot` of ``path``, written.
        path: replaced.
    """
    old = path.with_name(path.readlink().name) if path.is_symlink() else None
    for one in [*slot.rglob("*"), slot]:
        synchronise(one)
    if path.is_dir() and not path.is_symlink():
        path.rmdir()  # an empty one
    link = path.with_name(f".{path.name}.link")
    link.unlink(missing_ok=True)
    link.symlink_to(slot.name)
    link.replace(path)
    synchronise(path.parent)
    if old is not None and old.name in {f".{path.name}.{number}" for number in (0, 1)}:
        clear(old)
