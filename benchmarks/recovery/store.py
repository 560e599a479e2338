"""Results on disk, one line of JSON each: a run that was cut off goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch

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
    if not path.exists():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        key, after = entry.pop("key"), tuple(entry.pop("after"))
        found[key] = Result(after=after, **entry)
    return found


def fill(cells: Iterable[Cell], path: Path, workers: int) -> dict[str, Result]:
    """Make every training that isn't in the file yet."""
    done = load(path)
    missing = [cell for cell in dict.fromkeys(cells) if cell.key not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, ProcessPoolExecutor(workers, initializer=_start) as pool:
        pending = {pool.submit(_measure, cell): cell for cell in missing}
        for place, future in enumerate(as_completed(pending), 1):
            cell, result = pending[future], future.result()
            done[cell.key] = result
            file.write(json.dumps({"key": cell.key, **result.as_dict()}) + "\n")
            file.flush()
            if place % 100 == 0:
                print(f"{place}/{len(missing)}", flush=True)
    return done


def _start() -> None:
    torch.set_num_threads(1)
    os.environ["STEADYGRAD_QUIET"] = "1"


def _measure(cell: Cell) -> Result:
    fault = injections()[cell.fault] if cell.fault else None
    return run(trainings()[cell.training], cell.contender, fault, cell.at, cell.seed)
