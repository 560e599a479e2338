"""Would looking back at a run's first steps tell which of them poisoned it, and would beginning anew save it?

python -m benchmarks.starts              recurrent trainings, begun anew under caps
python -m benchmarks.starts --healthy    healthy ones: on which of them the rule would act
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import resumable
from benchmarks.faults import healthy  # noqa: F401 - importing registers the cases
from benchmarks.faults.case import CASES
from benchmarks.results import machine
from benchmarks.starts.record import Cap, Recorded, record, record_case
from benchmarks.starts.trainings import trainings
from benchmarks.survival.controls import controls
from benchmarks.survival.workload import Workload

CAPS = {
    "`auto`, recovery": Cap(),
    "clip 1.0": Cap(1.0),
    "clip 0.3": Cap(0.3),
    "anew, 1 x": Cap(1.0, begins_anew=True, stays=False),
    "anew, 0.25 x": Cap(0.25, begins_anew=True, stays=False),
    "anew, 0.25 x, stays": Cap(0.25, begins_anew=True),
}
STARTS = 160
"""Steps of a healthy training: more than are looked back at."""


@dataclass(frozen=True)
class Cell:
    """One training to be made: under a cap, or a healthy one, a ``case`` of `benchmarks.faults` or a ``control``."""

    training: str
    cap: str
    seed: int

    @property
    def key(self) -> str:
        """Stable name."""
        return f"{self.training}|{self.cap}|{self.seed}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--healthy", action="store_true", help="healthy trainings")
    parser.add_argument("--seeds", type=int, default=2, help="of each recurrent training")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("steadygrad-runs/starts.jsonl"))
    options = parser.parse_args()
    fill = partial(resumable.fill, path=options.out, workers=options.workers, measure=_measure, read=Recorded)
    print(machine(1), end="\n\n")
    if options.healthy:
        cells = [Cell(one.name, "control", 0) for one in controls()]
        cells += [Cell(one.name, "case", 0) for one in CASES if not one.faulty]
        print("\n".join(_harm(cells, fill(cells))))
    else:
        cells = [
            Cell(one.name, cap, seed) for seed in range(options.seeds) for one in trainings() for cap in CAPS
        ]
        print("\n".join(_saved(cells, fill(cells))))


def _measure(cell: Cell) -> Recorded:
    warnings.simplefilter("ignore")
    if cell.cap == "control":
        return record(_named(controls(), cell.training), cell.seed, steps=STARTS)
    if cell.cap == "case":
        return record_case(next(one for one in CASES if one.name == cell.training and not one.faulty))
    return record(_named(trainings(), cell.training), cell.seed, CAPS[cell.cap])


def _named(workloads: Sequence[Workload], name: str) -> Workload:
    return next(one for one in workloads if one.name == name)


def _harm(cells: Sequence[Cell], results: dict[str, Recorded]) -> list[str]:
    looks = {f"{cell.training} ({cell.cap})": results[cell.key].look for cell in cells}
    seen = {name: look for name, look in looks.items() if look is not None}
    loud, acted = ([n for n, look in seen.items() if getattr(look, by)] for by in ("is_loud", "is_poisoned"))
    lines = [f"{len(seen)} of {len(looks)} can be judged; loud for nothing {loud}, poisoned {acted}", ""]
    lines += ["| starts loudly | excess | rise | gain | stuck |", "| --- |" + " ---: |" * 4]
    for name, look in seen.items():
        if look.excess >= 32.0:
            lines.append(
                f"| {name} | {look.excess:.3g} | {look.rise:.3g} | {look.gain:.2g} | {look.stuck:.2g} |"
            )
    return lines


def _saved(cells: Sequence[Cell], results: dict[str, Recorded]) -> list[str]:
    lines = [
        f"| training, seed | excess | rise | gain | stuck | {' | '.join(CAPS)} |",
        "| --- |" + " ---: |" * (4 + len(CAPS)),
    ]
    for training, seed in dict.fromkeys((cell.training, cell.seed) for cell in cells):
        of = [results[Cell(training, cap, seed).key] for cap in CAPS]
        look = of[0].look
        seen = (
            ["-"] * 4
            if look is None
            else [f"{x:.3g}" for x in (look.excess, look.rise, look.gain, look.stuck)]
        )
        lines.append(
            f"| {' | '.join([f'{training}, {seed}', *seen, *(f'{one.held_out:.3g}' for one in of)])} |"
        )
    return lines


if __name__ == "__main__":
    main()
