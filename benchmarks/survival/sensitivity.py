"""How much hangs on each constant of `auto` and `steady`: each one halved and doubled, the others as they are.

python -m benchmarks.survival.sensitivity                 an hour on one processor; goes on where it was
python -m benchmarks.survival.sensitivity --seeds 15 16   more seeds
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks import resumable
from benchmarks.results import machine, write_section
from benchmarks.survival.contenders import CONTENDERS
from benchmarks.survival.controls import controls
from benchmarks.survival.store import workloads
from benchmarks.survival.trial import Result, run
from benchmarks.survival.unstable import unstable
from benchmarks.survival.workload import Workload
from steadygrad.policies import ceiling, footing, hold

# The package has the function of this name in the place of the module.
steady = importlib.import_module("steadygrad.policies.steady")

FACTORS = (0.5, 2.0)
WORSE = 0.02
"""Share of what is gained over a guess that counts as a difference; less comes of one step more or less under a cap."""

Results = dict[str, Result]


@dataclass(frozen=True)
class Constant:
    """One number of a policy.

    Attributes:
        policy: the contender it belongs to.
        module: where it stands.
        name: what it is called there.
        engaged_only: it says something only while the caps are on.
    """

    policy: str
    module: ModuleType
    name: str
    engaged_only: bool = False


TABLE = (
    Constant("auto", footing, "REACH"),
    Constant("auto", footing, "SLIP"),
    Constant("auto", footing, "HOT"),
    Constant("auto", footing, "SPIKE"),
    Constant("auto", footing, "CALM", engaged_only=True),
    Constant("auto", footing, "RECURRING", engaged_only=True),
    Constant("auto", footing, "RECENT", engaged_only=True),
    Constant("auto", footing, "HEARD", engaged_only=True),
    Constant("auto", hold, "HOLD", engaged_only=True),
    Constant("auto", hold, "PATIENCE", engaged_only=True),
    Constant("auto", ceiling, "LEAP"),
    *(
        Constant("steady", steady, name)
        for name in ("RHO", "BUDGET", "RHO_FLOOR", "CALM", "RHO_ADAPTIVE")
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One training with one constant changed; factor 1 is the policy as it comes."""

    workload: str
    policy: str
    name: str
    factor: float
    seed: int

    @property
    def key(self) -> str:
        """Stable name."""
        changed = "" if self.factor == 1.0 else f"{self.name} x {self.factor:g}"
        return f"{self.workload}|{self.policy}|{changed}|{self.seed}"


def main() -> None:
    """Train what is missing and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="*", type=int, default=[15])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("steadygrad-runs/sensitivity.jsonl"))
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    places = [*unstable(), *controls()]
    as_it_comes = [
        Cell(place.name, policy, "", 1.0, seed)
        for place in places
        for policy in ("plain", "auto", "steady")
        for seed in options.seeds
    ]
    results = resumable.fill(as_it_comes, options.out, options.workers, measure=_measure, read=Result)
    changed = [cell for one in TABLE for cell in _cells(one, places, options.seeds, results)]
    results = resumable.fill(changed, options.out, options.workers, measure=_measure, read=Result)
    text = "\n".join([machine(1), "", *table(results, places, options.seeds)])
    print(text)
    if not options.dry:
        write_section("sensitivity", text)


def _cells(
    one: Constant, places: Sequence[Workload], seeds: Sequence[int], results: Results
) -> Iterator[Cell]:
    """Trainings that the change can reach.

    A run that was never touched knows nothing of what acts under the caps, and stays untouched under signs that
    come later still.
    """
    for place in places:
        for seed in seeds:
            touched = results[Cell(place.name, one.policy, "", 1.0, seed).key].touched
            for factor in FACTORS:
                earlier_sign = factor < 1.0 and not one.engaged_only
                if one.policy == "steady" or touched or earlier_sign:
                    yield Cell(place.name, one.policy, one.name, factor, seed)


def table(results: Results, places: Sequence[Workload], seeds: Sequence[int]) -> Iterator[str]:
    """A row a constant and factor."""
    yield (
        "| policy | constant | | differs in | better / worse by over "
        f"{WORSE:.0%} | mean change | worst | lost, as it comes {_lost(results, places, seeds)} "
        "| healthy ones touched |"
    )
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |"
    for one in TABLE:
        for factor in FACTORS:
            yield _row(one, factor, results, places, seeds)


def _row(
    one: Constant, factor: float, results: Results, places: Sequence[Workload], seeds: Sequence[int]
) -> str:
    changes, lost, healthy = dict[str, float](), 0, 0
    for place in places:
        pairs = [_pair(one, factor, place, seed, results) for seed in seeds]
        if place.stable:
            healthy += any(after.touched and not before.touched for before, after in pairs)
            continue
        lost += sum(_is_lost(after, place) for _, after in pairs)
        changes[place.name] = float(np.mean([_change(before, after, place) for before, after in pairs]))
    differ = [change for change in changes.values() if change != 0.0]
    better, worse = sum(x < -WORSE for x in differ), sum(x > WORSE for x in differ)
    most = max(changes, key=changes.__getitem__)
    worst = f"{most} {changes[most]:+.3f}" if changes[most] > 0 else "-"
    value = getattr(one.module, one.name)
    return (
        f"| {one.policy} | `{one.name}` {value:.3g} | x {factor:g} | {len(differ)} of {len(changes)} | {better} / {worse} "
        f"| {np.mean(list(changes.values())):+.4f} | {worst} | {lost} | {healthy} |"
    )


def _pair(
    one: Constant, factor: float, place: Workload, seed: int, results: Results
) -> tuple[Result, Result]:
    """The policy as it comes and changed; the same where the change can't reach the training."""
    before = results[Cell(place.name, one.policy, "", 1.0, seed).key]
    return before, results.get(Cell(place.name, one.policy, one.name, factor, seed).key, before)


def _change(before: Result, after: Result, place: Workload) -> float:
    """How much worse it became, as a share of what the better of the two gains over a guess; both lost: 0."""
    old, new = (min(one.loss, place.guess) for one in (before, after))
    return 0.0 if old == new else (new - old) / (place.guess - min(old, new))


def _is_lost(result: Result, place: Workload) -> bool:
    return not math.isfinite(result.loss) or result.loss >= place.guess


def _lost(results: Results, places: Sequence[Workload], seeds: Sequence[int]) -> str:
    counts = {
        policy: sum(
            _is_lost(results[Cell(place.name, policy, "", 1.0, seed).key], place)
            for place in places
            if not place.stable
            for seed in seeds
        )
        for policy in ("auto", "steady")
    }
    return ", ".join(f"{policy} {count}" for policy, count in counts.items())


def _measure(cell: Cell) -> Result:
    with _changed(cell):
        return run(workloads()[cell.workload], CONTENDERS[cell.policy], scale=1.0, seed=cell.seed)


@contextmanager
def _changed(cell: Cell) -> Iterator[None]:
    found = [one for one in TABLE if one.name == cell.name and one.policy == cell.policy]
    if not found:
        yield
        return
    module, before = found[0].module, getattr(found[0].module, found[0].name)
    _put(module, cell.name, type(before)(before * cell.factor))
    try:
        yield
    finally:
        _put(module, cell.name, before)


def _put(module: ModuleType, name: str, value: float) -> None:
    setattr(module, name, value)
    if module is footing and name == "HOT":
        footing._LOG_HOT = math.log(value)  # noqa: SLF001 - kept beside it, so that no step takes a logarithm


if __name__ == "__main__":
    main()
