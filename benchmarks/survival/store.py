"""Results on disk, one line of JSON each: a run that was cut off goes on where it was."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import resumable
from benchmarks.survival import contenders
from benchmarks.survival.controls import controls
from benchmarks.survival.trial import Result, run
from benchmarks.survival.unstable import unstable
from benchmarks.survival.workload import Workload


@dataclass(frozen=True)
class Cell:
    """One training to be made."""

    workload: str
    contender: str
    scale: float
    seed: int

    @property
    def key(self) -> str:
        """Stable name."""
        return f"{self.workload}|{self.contender}|{self.scale:g}|{self.seed}"


def workloads() -> dict[str, Workload]:
    """All of them by name."""
    return {one.name: one for one in [*unstable(), *controls()]}


def load(path: Path) -> dict[str, Result]:
    """What has been measured."""
    return resumable.load(path, Result)


def fill(cells: Iterable[Cell], path: Path, workers: int) -> dict[str, Result]:
    """Make every training that isn't in the file yet."""
    return resumable.fill(cells, path, workers, measure=_measure, read=Result)


def _measure(cell: Cell) -> Result:
    name = cell.contender
    found = (
        contenders.constant(float(name.removeprefix("clip:")))
        if name.startswith("clip:")
        else contenders.CONTENDERS[name]
    )
    return run(workloads()[cell.workload], found, scale=cell.scale, seed=cell.seed)
