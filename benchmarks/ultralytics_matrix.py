"""One NaN pixel in epoch 0, 1 or 2 of YOLO detection or pose, early, midway or late: plain, guarded, and clean.

    python -m benchmarks.ultralytics_matrix                 everything; goes on where it was
    python -m benchmarks.ultralytics_matrix --tables        print what has been measured so far

Each of the 18 places is tried with each seed, plain and guarded. Beside them stand the clean twin of a seed,
which has everything but the pixel, and clean trainings on the same images that began with other weights: how far
these differ is what a difference in mAP has to be compared with. Needs the vision environment (`make
setup-vision`); every training is made on the CPU, with real handwritten digits and nothing downloaded.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import resumable
from benchmarks.results import write_section
from benchmarks.vision.digits import write_digits
from benchmarks.vision.matrix_table import POSITIONS, SEED_SHIFTS, TASKS, Cell, Outcome, report
from benchmarks.vision.trainings import Poison, train

EPOCHS = 8
SETTINGS: dict[str, Any] = {"epochs": EPOCHS, "batch": 4, "nbs": 4}
IMAGES = {"train": 80, "val": 32}
"""With these a training takes half a minute of one core, and ends at an mAP50-95 well away from 0 and from 1."""


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--modes", nargs="*", choices=("guard", "plain"), default=["guard", "plain"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    parser.add_argument("--out", type=Path, default=Path("steadygrad-runs/ultralytics_matrix.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.tables:
        cells = list(cells_of(options.seeds, options.modes))
        resumable.fill(cells, options.out, options.workers, measure=measure, read=Outcome)
    text = report(resumable.load(options.out, Outcome), options.seeds, EPOCHS)
    print(text)
    if not options.dry:
        write_section("yolo", text)


def cells_of(seeds: Sequence[int], modes: Sequence[str]) -> Iterator[Cell]:
    """Every training; what the table needs most comes first."""
    for mode in modes:
        for seed in seeds:
            for task in TASKS:
                yield Cell(task, seed, "plain")
                yield from (
                    Cell(task, seed, mode, epoch=epoch, batch=batch)
                    for epoch in range(3)
                    for batch in POSITIONS
                )
    yield from (
        Cell(task, seed, "plain", shift=shift) for seed in seeds for task in TASKS for shift in SEED_SHIFTS
    )


def measure(cell: Cell) -> Outcome:
    """Make one training."""
    poison = None if cell.epoch is None else Poison(cell.epoch, POSITIONS[cell.batch])
    mode = None if cell.mode == "plain" else cell.mode
    with tempfile.TemporaryDirectory() as folder:
        data = write_digits(Path(folder) / "data", cell.task, seed=cell.seed, **IMAGES)
        run = train(
            cell.task, data, Path(folder), mode=mode, poison=poison, seed=cell.seed + cell.shift, **SETTINGS
        )
    return Outcome(run.error, run.epochs, run.fitness, list(run.nonfinite), run.skipped)


if __name__ == "__main__":
    main()
