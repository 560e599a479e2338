"""Which files in a folder were written by the ranks of one training."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from steadygrad.runfile.listing import RunSummary, list_runs
from steadygrad.runfile.reader import Run, open_run

TOGETHER_S = 300.0
"""Within it the ranks of one training begin; only asked where the names of the files leave it open."""

_NAMED = re.compile(r"rank\D?(\d+)")


@dataclass(frozen=True, slots=True)
class RankFiles:
    """The run files of one training on several ranks.

    Attributes:
        name: what the names of the files have in common; ``*`` stands for the rank.
        world_size: how many ranks there were.
        paths: by rank, in order; those that are in the folder.
    """

    name: str
    world_size: int
    paths: Mapping[int, Path]


def trainings_in(folder: str | os.PathLike[str]) -> tuple[list[RankFiles], list[RunSummary]]:
    """Sort the runs of a folder into trainings on several ranks and all others.

    Args:
        folder: where to look; folders in it are not searched.

    Returns:
        Trainings on several ranks, and the runs of one process, each the newest first.

    Raises:
        RunFileError: where the folder can't be read.

    Example:
        >>> import tempfile
        >>> trainings_in(tempfile.mkdtemp())
        ([], [])
    """
    runs = list_runs(folder)
    return _grouped(run for run in runs if run.world_size > 1), [run for run in runs if run.world_size == 1]


def with_siblings(path: str | os.PathLike[str]) -> RankFiles | None:
    """The training that a run file belongs to, where it is one of several ranks.

    Args:
        path: a run file.

    Returns:
        All its ranks whose files lie beside it; None for the run of a single process.
    """
    own = Path(path).absolute()
    groups, _ = trainings_in(own.parent)
    return next((group for group in groups if own in group.paths.values()), None)


def open_ranks(run: Run) -> list[Run]:
    """Open the files of all ranks of a run's training that lie beside it.

    Args:
        run: one of them.

    Returns:
        One a rank, in order; none where one process trained alone.
    """
    group = with_siblings(run.path) if run.info.world_size > 1 else None
    return [] if group is None else [open_run(path) for path in group.paths.values()]


def _grouped(runs: Iterable[RunSummary]) -> list[RankFiles]:
    found: dict[tuple[str, int], list[RunSummary]] = {}
    for run in runs:
        found.setdefault((_common(_wanted(run), run.rank), run.world_size), []).append(run)
    groups = [(key, group) for key, same in found.items() for group in _trainings(same)]
    return [
        RankFiles(name, world, {run.rank: Path(run.path) for run in sorted(group, key=lambda run: run.rank)})
        for (name, world), group in groups
    ]


def _wanted(run: RunSummary) -> str:
    """The name that was asked for, where the file has a number behind it: ranks that ask for the same get one each."""
    path = Path(run.path)
    numbered = re.fullmatch(rf"{re.escape(run.name)}-\d+", path.stem)
    return f"{run.name}{path.suffix}" if numbered else path.name


def _trainings(same: list[RunSummary]) -> list[list[RunSummary]]:
    """Files of one name: one training, or one after the other where a rank is there twice."""
    if len({run.rank for run in same}) == len(same):
        return [same]
    found: list[list[RunSummary]] = []
    for run in sorted(same, key=lambda run: -run.started):
        now = found[-1] if found else []
        fits = (
            now and run.rank not in {one.rank for one in now} and now[0].started - run.started <= TOGETHER_S
        )
        if fits:
            now.append(run)
        else:
            found.append([run])
    return found


def _common(name: str, rank: int) -> str:
    """The name with its rank left out: behind the word rank, or the last number that is the rank."""
    numbers = [*_NAMED.finditer(name)] or [*re.finditer(r"(\d+)", name)]
    mine = [one for one in numbers if int(one[1]) == rank]
    return f"{name[: mine[-1].start(1)]}*{name[mine[-1].end(1) :]}" if mine else name
