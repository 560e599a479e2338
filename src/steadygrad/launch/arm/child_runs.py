"""What the child processes of a script have trained, as their run files tell it."""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from pathlib import Path

from torch import distributed

from steadygrad.errors import RunFileError
from steadygrad.launch.result import Training
from steadygrad.runfile import Run, open_run

# As many as a process records of its own.
_MOST = 64
_CHILDREN = ("process*", "rank*")


def of_children(base: Path, since: float) -> list[Training]:
    """The trainings that children have recorded.

    Args:
        base: folder and name that their run files begin with.
        since: when this process began, seconds since the epoch.
    """
    found: list[Training] = []
    name = escape(base.name)
    for path in sorted(path for kind in _CHILDREN for path in base.parent.glob(f"{name}.{kind}.steady")):
        if path.stat().st_mtime >= since and len(found) < _MOST:
            found += _told(path, since)
    return found


def rank_in_group() -> int | None:
    """Rank in the process group of a child that has joined one; None where it trains alone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    return distributed.get_rank() if distributed.get_world_size() > 1 else None


def _told(path: Path, since: float) -> Iterator[Training]:
    try:
        run: Run = open_run(path)
    except RunFileError:  # killed before it had begun
        return
    # A second is what a file system may round to.
    if run.info.started < since - 1.0 or not run.step_count:
        return
    training = Training("guard" if run.info.mode == "guard" else "watch", run.info.model, str(path))
    training.steps, training.findings = run.step_count, run.findings
    training.clipped, training.skipped = int((run.clip_coef < 1.0).sum()), int(run.skipped.sum())
    yield training
