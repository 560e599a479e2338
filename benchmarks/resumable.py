"""Results on disk, one line of JSON each: a run that was cut off goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch


class Keyed(Protocol):
    """One training to be made."""

    @property
    def key(self) -> str:
        """Stable name."""


class Entry(Protocol):
    """What came of it."""

    def as_dict(self) -> dict[str, Any]:
        """Fields, as JSON takes them."""


C = TypeVar("C", bound=Keyed)
R = TypeVar("R", bound=Entry)


def load(path: Path, read: Callable[..., R]) -> dict[str, R]:
    """What has been measured; ``read`` makes a result of its fields."""
    if not path.exists():
        return {}
    entries = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {entry.pop("key"): read(**entry) for entry in entries}


def fill(
    cells: Iterable[C], path: Path, workers: int, *, measure: Callable[[C], R], read: Callable[..., R]
) -> dict[str, R]:
    """Make every training that isn't in the file yet."""
    done = load(path, read)
    missing = [cell for cell in dict.fromkeys(cells) if cell.key not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, ProcessPoolExecutor(workers, initializer=_start) as pool:
        pending = {pool.submit(measure, cell): cell for cell in missing}
        for place, future in enumerate(as_completed(pending), 1):
            cell = pending[future]
            try:
                result = future.result()
            except BaseException:
                # Leaving the pool waits for everything that was handed in, and nobody would write it down.
                pool.shutdown(wait=False, cancel_futures=True)
                print(f"{cell.key} failed", flush=True)
                raise
            done[cell.key] = result
            file.write(json.dumps({"key": cell.key, **result.as_dict()}) + "\n")
            file.flush()
            if place % 50 == 0:
                print(f"{place}/{len(missing)}", flush=True)
    return done


def _start() -> None:
    torch.set_num_threads(1)
    os.environ["STEADYGRAD_QUIET"] = "1"
