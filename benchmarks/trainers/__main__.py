"""What the guard costs inside each trainer: plain and guarded, in turn, in one process.

    python -m benchmarks.trainers                                 Lightning, Transformers, Accelerate
    .venv-vision/bin/python -m benchmarks.trainers timm ultralytics    in the vision environment
    .venv-vision/bin/python -m benchmarks.trainers ultralytics_640 --repeats 0 --steps 40    images of a size that people train on

Guarded means as each integration attaches it: with a run file, and with recovery on. Blocks of five steps of two
trainings alternate in one process; a row gives processor time, so that what else the machine does counts for neither.
Shown is the mean over the steps from number 130 on, rare copies and probes included, and beside it the mean over all
steps but the first: early copies and probes are made whatever they cost and paid off later. Where the allocator happens to put two copies of a model can make one of them some percent slower for good. So each
comparison is made anew several times, in both orders, and two plain trainings stand beside each other as a measure of
what chance does.

Before that comes what chance has no part in: in one more guarded training every door of steadygrad's has a clock. Its share is
that of the processor time that is left when ours is taken off. Without the comparison fewer steps will do: then the second
half of them is shown, with the early probes in it.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import Counter
from functools import partial
from typing import NamedTuple

import torch

from benchmarks.results import machine
from benchmarks.trainers.attribution import Attribution, Spent
from benchmarks.trainers.trainings import TRAINERS
from benchmarks.trainers.turns import Turns

BLOCK = 5
FIRST_BLOCKS = 1
"""Left out of everything: imports, the first copy of the state."""
EARLY_BLOCKS = 26
"""As `steadygrad.measure.probe.EARLY_STEPS`: until then probes come at doubling spacing, whatever they cost."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainers", nargs="*", default=["lightning", "transformers", "accelerate"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=2, help="0: without the comparison")
    options = parser.parse_args()
    if options.repeats and options.steps < 2 * BLOCK * EARLY_BLOCKS:
        parser.error(
            f"--steps {options.steps}: expected at least {2 * BLOCK * EARLY_BLOCKS}, half of them past the early ones"
        )
    torch.set_num_threads(1)
    os.environ["STEADYGRAD_QUIET"] = "1"
    print(machine(1))
    print(
        "| trainer | step (ms) | in our hooks (ms) | share | the dearest (us) | early steps too | writer's thread |"
    )
    print("| --- | ---: | ---: | ---: | --- | ---: | ---: |")
    for name in options.trainers:
        print(_spent_row(name, options.steps), flush=True)
    if not options.repeats:
        return
    print(
        "\n| trainer | step, plain (ms) | guarded to plain | single comparisons | early steps too | plain to plain |"
    )
    print("| --- | ---: | ---: | --- | ---: | --- |")
    for name in options.trainers:
        print(_row(name, options.steps, options.repeats), flush=True)


def _spent_row(name: str, steps: int) -> str:
    spent, doors = Attribution(), list[Counter[str]]()

    def step() -> None:
        spent.mark()
        doors.append(spent.by_door_s.copy())

    with spent.at_the_doors(name):
        TRAINERS[name](step, steps, guarded=True)
    from_step = min(BLOCK * EARLY_BLOCKS, len(doors) // 2)
    count = len(doors) - 1 - from_step
    late = spent.since(from_step)
    dearest = ", ".join(
        f"{door} {1e6 * seconds / count:.0f}"
        for door, seconds in (doors[-1] - doors[from_step]).most_common(3)
    )
    return (
        f"| {name} | {1000 * late.theirs_s / count:.0f} | {1000 * late.ours_s / count:.2f} | "
        f"{100 * late.ours_s / late.theirs_s:.2f} % | {dearest} | {_share(spent.since(BLOCK * FIRST_BLOCKS))} | "
        f"{100 * late.writer_s / late.theirs_s:.2f} % |"
    )


def _share(spent: Spent) -> str:
    return f"{100 * spent.ours_s / spent.theirs_s:.2f} %"


def _row(name: str, steps: int, repeats: int) -> str:
    late: list[float] = []
    whole: list[float] = []
    chance: list[float] = []
    step_ms = 0.0
    for _ in range(repeats):
        ahead = _compared(name, steps, guarded=(False, True))
        behind = _compared(name, steps, guarded=(True, False))
        step_ms = ahead.step_ms
        late += [ahead.late, 1 / behind.late]
        whole += [ahead.whole, 1 / behind.whole]
        chance.append(_compared(name, steps, guarded=(False, False)).late)
    means = [_percent(statistics.geometric_mean(ratios)) for ratios in (late, whole)]
    return f"| {name} | {step_ms:.0f} | {means[0]} | {_span(late)} | {means[1]} | {_span(chance)} |"


class Compared(NamedTuple):
    """Processor time of the second training to that of the first, late and on the whole, and ms of a step of the first."""

    late: float
    whole: float
    step_ms: float


def _compared(name: str, steps: int, *, guarded: tuple[bool, bool]) -> Compared:
    turns = Turns(BLOCK)
    turns.run(*(partial(TRAINERS[name], steps=steps, guarded=one) for one in guarded))
    pairs = list(zip(*turns.blocks_s, strict=False))
    step_ms = 1000 * statistics.median(first for first, _ in pairs) / BLOCK
    return Compared(_ratio(pairs[EARLY_BLOCKS:]), _ratio(pairs[FIRST_BLOCKS:]), step_ms)


def _ratio(pairs: list[tuple[float, float]]) -> float:
    return sum(second for _, second in pairs) / sum(first for first, _ in pairs)


def _span(ratios: list[float]) -> str:
    return f"{_percent(min(ratios))} to {_percent(max(ratios))}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


if __name__ == "__main__":
    main()
