"""Results on disk, one line of JSON each: a run that was cut off goes on where it was."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import resumable
from benchmarks.recovery.injections import injections
from benchmarks.recovery.trainings import trainings
from benchmarks.recovery.trial import Result, run


@dataclass(frozen=True)
class Cell:
    """One training to be made.

    Attributes:
        training: its name.
        contender: who takes part.
        fault: its name; empty for a twin.
        at: the step of the fault.
        seed: of weights, data order and fault.
    """

    training: str
    contender: str
    fault: str
    at: int
    seed: int

    @property
    def key(self) -> str:
        """Stable name."""
        return f"{self.training}|{self.contender}|{self.fault}|{self.at}|{self.seed}"


def load(path: Path) -> dict[str, Result]:
    """What has been measured."""
    return resumable.load(path, _read)


def fill(cells: Iterable[Cell], path: Path, workers: int) -> dict[str, Result]:
    """Make every training that isn't in the file yet."""
    return resumable.fill(cells, path, workers, measure=_measure, read=_read)


def _read(*, after: list[float], **fields: Any) -> Result:
    return Result(after=tuple(after), **fields)


def _measure(cell: Cell) -> Result:
    fault = injections()[cell.fault] if cell.fault else None
    return run(trainings()[cell.training], cell.contender, fault, cell.at, cell.seed)
