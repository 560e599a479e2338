"""The trainings of `benchmarks.ultralytics_matrix`, and the table of what came of them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

TASKS = ("detect", "pose")
POSITIONS = {"first": 0.0, "middle": 0.5, "last": 1.0}
SEED_SHIFTS = (0, 100, 200)
"""Clean trainings on the images of one seed: the twin, and two that differ from it in what is random."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One training to be made.

    Attributes:
        task: ``detect`` or ``pose``.
        seed: of the images, and of weights, order and augmentation.
        mode: ``plain`` or ``guard``.
        epoch: epoch of the pixel; None for a clean training.
        batch: key of `POSITIONS`.
        shift: added to the seed for weights, order and augmentation, not for the images.
    """

    task: str
    seed: int
    mode: str
    epoch: int | None = None
    batch: str = ""
    shift: int = 0

    @property
    def key(self) -> str:
        """Stable name."""
        place = "clean" if self.epoch is None else f"{self.epoch}-{self.batch}"
        return f"{self.task} {self.seed}+{self.shift} {self.mode} {place}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; see `benchmarks.vision.trainings.Result`."""

    error: str
    epochs: int
    fitness: float
    nonfinite: list[str]
    skipped: int

    def as_dict(self) -> dict[str, Any]:
        """Fields, as JSON takes them."""
        return asdict(self)

    def told(self, epochs: int) -> str:
        """How it ended, of a training that was to take so many epochs."""
        if self.error:
            return "dies"
        if self.nonfinite:
            return f"ruined: {', '.join(self.nonfinite)}"
        lost = f", {self.skipped} step{'s' * (self.skipped != 1)} lost" if self.skipped else ""
        again = f", {self.epochs - epochs} epoch repeated" if self.epochs > epochs else ""
        return f"finishes{lost}{again}"


Outcomes = Mapping[str, Outcome]
_TITLES = {"plain": "plain Ultralytics", "guard": "guarded"}


def report(outcomes: Outcomes, seeds: Sequence[int], epochs: int) -> str:
    """The table, and what it says of the fitness; plain Ultralytics has a column where it was measured."""
    poisoned = {key.split()[2] for key in outcomes if not key.endswith("clean")}
    modes = {mode: title for mode, title in _TITLES.items() if mode in poisoned}
    head = ("task", "epoch", "batch", *modes.values(), "fitness, clean twin", "fitness, guarded")
    lines = [_row(head), _row(("---", "---:", "---", *["---"] * (len(head) - 3)))]
    for task in TASKS:
        for epoch in range(3):
            for batch in POSITIONS:
                cells = {mode: [Cell(task, seed, mode, epoch, batch) for seed in seeds] for mode in _TITLES}
                ends = [_ends(outcomes, cells[mode], epochs) for mode in modes]
                clean = [Cell(task, seed, "plain") for seed in seeds]
                fitness = [_fitness(outcomes, some) for some in (clean, cells["guard"])]
                lines.append(_row((task, str(epoch), batch, *ends, *fitness)))
    return "\n".join([*lines, "", *_noise(outcomes, seeds)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ends(outcomes: Outcomes, cells: Sequence[Cell], epochs: int) -> str:
    counts = Counter(outcomes[cell.key].told(epochs) for cell in cells if cell.key in outcomes)
    return "; ".join(f"{count}x {told}" for told, count in counts.most_common()) or "-"


def _fitness(outcomes: Outcomes, cells: Sequence[Cell]) -> str:
    return " ".join(f"{outcomes[cell.key].fitness:.2f}" if cell.key in outcomes else "-" for cell in cells)


def _noise(outcomes: Outcomes, seeds: Sequence[int]) -> Iterator[str]:
    """Guarded minus clean, beside how far clean trainings on the same images are from each other."""
    for task in TASKS:
        guarded, clean = [], []
        for seed in seeds:
            twins = [outcomes.get(Cell(task, seed, "plain", shift=shift).key) for shift in SEED_SHIFTS]
            if None in twins:
                continue
            first, *others = [twin.fitness for twin in twins if twin is not None]
            clean += [other - first for other in others] + [others[1] - others[0]]
            guarded += [
                one.fitness - first
                for epoch in range(3)
                for batch in POSITIONS
                if (one := outcomes.get(Cell(task, seed, "guard", epoch, batch).key)) is not None
            ]
        if guarded:
            yield (
                f"{task}: {len(guarded)} guarded trainings end {statistics.median(guarded):+.3f} (median) from their "
                f"clean twins, at most {max(map(abs, guarded)):.3f} away (root mean square {_size(guarded):.3f}); "
                f"{len(clean)} pairs of clean trainings with other weights differ by {_size(clean):.3f} (at most "
                f"{max(map(abs, clean)):.3f})."
            )


def _size(values: Sequence[float]) -> float:
    return statistics.fmean(value * value for value in values) ** 0.5
