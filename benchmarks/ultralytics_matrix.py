"""One NaN pixel in epoch 0, 1 or 2 of YOLO detection or pose, early, midway or late: plain and guarded.

    python -m benchmarks.ultralytics_matrix                  the 18 places, short trainings (minutes)
    python -m benchmarks.ultralytics_matrix --fitness        how good the weights become (much longer)

Needs the vision environment (`make setup-vision`); every training is made on the CPU, with real handwritten
digits and nothing downloaded.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.vision.digits import write_digits
from benchmarks.vision.trainings import Poison, Result, train

TASKS = ("detect", "pose")
POSITIONS = {"first": 0.0, "middle": 0.5, "last": 1.0}
EPOCHS = 4
SHORT = {"imgsz": 64, "batch": 8, "nbs": 8}


def main() -> None:
    """Run and print one of the two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fitness", action="store_true", help="train for long, and compare the mAP")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=30, help="of the long trainings")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = fitness(arguments.seeds, arguments.epochs) if arguments.fitness else survival(arguments.seeds)
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def survival(seeds: int) -> Iterator[tuple[str, ...]]:
    """What is left of each training, plain and guarded."""
    yield "task", "epoch", "batch", "seed", "plain Ultralytics", "guarded"
    yield "---", "---:", "---", "---:", "---", "---"
    whole = {None: 0, "guard": 0}
    for task, epoch, name, seed in _cases(seeds):
        with tempfile.TemporaryDirectory() as folder:
            data = write_digits(Path(folder) / "data", task, train=48, val=8, seed=seed)
            told = []
            for mode in whole:
                poison = Poison(epoch, POSITIONS[name])
                run = train(
                    task,
                    data,
                    Path(folder) / str(mode),
                    mode=mode,
                    poison=poison,
                    epochs=EPOCHS,
                    seed=seed,
                    **SHORT,
                )
                whole[mode] += _whole(run)
                told.append(_told(run))
        yield task, str(epoch), name, str(seed), *told
    yield "whole", "", "", "", *(str(count) for count in whole.values())


def fitness(seeds: int, epochs: int) -> Iterator[tuple[str, ...]]:
    """mAP50-95 on held-out digits: clean, clean under a guard, and guarded with a poisoned batch."""
    yield "task", "seed", "plain, clean", "guarded, clean", *(f"guarded, NaN in epoch {i}" for i in range(3))
    yield "---", *["---:"] * 6
    for task in TASKS:
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                data = write_digits(Path(folder) / "data", task, seed=seed)
                runs = [
                    train(
                        task, data, Path(folder) / str(index), mode=mode, poison=poison, epochs=epochs, seed=seed,
                        batch=8, nbs=8,
                    )
                    for index, (mode, poison) in enumerate(_long_runs())
                ]  # fmt: skip
            yield task, str(seed), *(run.error or f"{run.fitness:.3f}" for run in runs)


def _cases(seeds: int) -> Iterator[tuple[str, int, str, int]]:
    for task in TASKS:
        for epoch in range(3):
            for name in POSITIONS:
                for seed in range(seeds):
                    yield task, epoch, name, seed


def _long_runs() -> Iterator[tuple[str | None, Poison | None]]:
    yield None, None
    yield "guard", None
    for epoch, position in enumerate(POSITIONS.values()):
        yield "guard", Poison(epoch, position)


def _whole(run: Result) -> bool:
    return not run.error and not run.nonfinite and run.epochs == EPOCHS


def _told(run: Result) -> str:
    if run.error:
        return f"dies: {run.error.partition(':')[2].strip()[:60]}"
    if run.nonfinite:
        return f"ruined: {', '.join(run.nonfinite)}"
    lost = f"{run.skipped} step lost" if run.skipped else ""
    again = f"{run.epochs - EPOCHS} epoch repeated" if run.epochs > EPOCHS else ""
    return "finishes" + "".join(f", {part}" for part in (lost, again) if part)


if __name__ == "__main__":
    main()
