"""Results on disk, one line of JSON each: a run that was cut off goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch

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
    if not path.exists():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        key = entry.pop("key")
        found[key] = Result(**entry)
    return found


def fill(cells: Iterable[Cell], path: Path, workers: int) -> dict[str, Result]:
    """Make every training that isn't in the file yet."""
    done = load(path)
    missing = [cell for cell in cells if cell.key not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, ProcessPoolExecutor(workers, initializer=_start) as pool:
        pending = {pool.submit(_measure, cell): cell for cell in missing}
        for place, future in enumerate(as_completed(pending), 1):
            cell, result = pending[future], future.result()
            done[cell.key] = result
            file.write(json.dumps({"key": cell.key, **result.as_dict()}) + "\n")
            file.flush()
            if place % 50 == 0:
                print(f"{place}/{len(missing)}", flush=True)
    return done


def _start() -> None:
    torch.set_num_threads(1)
    os.environ["STEADYGRAD_QUIET"] = "1"


def _measure(cell: Cell) -> Result:
    name = cell.contender
    found = (
        contenders.constant(float(name.removeprefix("clip:")))
        if name.startswith("clip:")
        else contenders.CONTENDERS[name]
    )
    return run(workloads()[cell.workload], found, scale=cell.scale, seed=cell.seed)
