"""YOLO detection and pose on real handwritten digits, with one NaN pixel in the first epoch: plain and guarded.

    make demo-vision

Nothing is downloaded: the models are built from Ultralytics' own yaml files and trained from scratch.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.vision.digits import write_digits
from benchmarks.vision.trainings import Poison, Result, train

POISON = Poison(epoch=0, position=0.5)
EPOCHS = 12
RUNS = Path("steadygrad-runs")


def main() -> None:
    """Train, and print one table and what the guard said."""
    console = Console()
    torch.set_num_threads(2)
    table = Table(
        "training", "trained with", "ends", "steps\nlost", "not finite at the end", box=box.SIMPLE_HEAD
    )
    said: list[str] = []
    for task in ("detect", "pose"):
        with tempfile.TemporaryDirectory() as scratch:
            data = write_digits(Path(scratch) / "data", task)
            for mode in (None, "guard"):
                name = mode or "plain"
                began = time.perf_counter()
                with console.status(f"{task}: {name}, {EPOCHS} epochs, one NaN pixel in the first ..."):
                    run = train(
                        task, data, Path(scratch) / str(mode), mode=mode, poison=POISON, epochs=EPOCHS, batch=8, nbs=8,
                        run=RUNS / f"yolo-{task}.steady",
                    )  # fmt: skip
                console.print(f"{task}: {name}: {time.perf_counter() - began:.0f} s")
                table.add_row(f"YOLO11n {task}", name, *_cells(run))
                said += [f"{task}, {name}: {line}" for line in (run.error, *run.findings) if line]
    console.print(table)
    console.print("fitness: mAP50-95 of the boxes; for pose plus that of the key points\n", highlight=False)
    for line in said:
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"\nnext: steadygrad explain {RUNS / 'yolo-detect.steady'}", highlight=False)


def _cells(run: Result) -> tuple[str, ...]:
    ends = f"dies in epoch {run.epochs}" if run.error else f"{EPOCHS} epochs, fitness {run.fitness:.2f}"
    return ends, str(run.skipped) if run.skipped else "-", ", ".join(run.nonfinite) or "-"


if __name__ == "__main__":
    main()
