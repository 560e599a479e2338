"""What runs lie in a folder, without unpacking any of them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from steadygrad.errors import NotARunFile, RunFileError
from steadygrad.records import RunInfo
from steadygrad.runfile.facts import Tail, read_info, read_tail, tensors_bytes
from steadygrad.runfile.opening import reading
from steadygrad.runfile.schema import INFO_ROW, SIDE_FILES, TAIL_ROW

_TIMEOUT_S = 0.5
_NO_TENSORS = tensors_bytes(())


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run in a list.

    Attributes:
        path: path of the file.
        name: name of the run.
        mode: ``watch`` or ``guard``.
        started: seconds since the epoch.
        steps: optimizer steps recorded.
        findings: number by severity.
        last_total_norm: newest total norm; NaN before the first step.
        last_written: seconds since the epoch.
        finished: whether the writer closed it; False while it runs, or when it was killed.
        rank: rank of the process that wrote it.
        world_size: how many processes trained together.
    """

    path: str
    name: str
    mode: str
    started: float
    steps: int
    findings: Mapping[str, int]
    last_total_norm: float
    last_written: float
    finished: bool
    rank: int = 0
    world_size: int = 1


def list_runs(folder: str | os.PathLike[str]) -> list[RunSummary]:
    """List the runs in a folder, the newest first; other files are passed over.

    Args:
        folder: where to look; folders in it are not searched.

    Returns:
        One summary a run.

    Raises:
        RunFileError: where the folder can't be read.

    Example:
        >>> import tempfile
        >>> list_runs(tempfile.mkdtemp())
        []
    """
    try:
        with os.scandir(folder) as entries:
            paths = [str(Path(os.fsdecode(entry.path)).absolute()) for entry in entries if entry.is_file()]
    except OSError as error:
        raise RunFileError(f"can't list the runs in {os.fsdecode(folder)} ({error.strerror}).") from None
    found = [summarise(path) for path in paths if not path.endswith(SIDE_FILES)]
    return sorted((run for run in found if run), key=lambda run: (run.started, run.path), reverse=True)


def summarise(path: str) -> RunSummary | None:
    """Summarise one run; None for a file that holds none, or can't be read now."""
    try:
        with reading(path, _TIMEOUT_S) as connection:
            info, tail, counts = _read(connection)
    except (NotARunFile, RunFileError):
        return None
    return RunSummary(
        path=path,
        name=info.name,
        mode=info.mode,
        started=info.started,
        steps=tail.steps,
        findings=MappingProxyType(counts),
        last_total_norm=tail.last_total_norm,
        last_written=tail.last_written,
        finished=tail.finished,
        rank=info.rank,
        world_size=info.world_size,
    )


def _read(connection: sqlite3.Connection) -> tuple[RunInfo, Tail, dict[str, int]]:
    query = "SELECT value FROM run WHERE id=?"
    info = read_info(connection.execute(query, (INFO_ROW,)).fetchone()[0], _NO_TENSORS)
    tail = read_tail(connection.execute(query, (TAIL_ROW,)).fetchone()[0])
    counts = connection.execute(
        "SELECT severity,count(*) FROM event WHERE kind='finding' GROUP BY severity ORDER BY severity"
    )
    return info, tail, dict(counts.fetchall())
