"""What the guard costs inside each trainer: plain and guarded, in turn, in one process.

    python -m benchmarks.trainers                                 Lightning, Transformers, Accelerate
    .venv-vision/bin/python -m benchmarks.trainers timm ultralytics    in the vision environment

Guarded means as each integration attaches it: with a run file, and with recovery on. Blocks of five steps of two
trainings alternate in one process; a row gives processor time, so that what else the machine does counts for neither.
Where the allocator happens to put two copies of a model can make one of them some percent slower for good. So each
comparison is made anew several times, in both orders, and two plain trainings stand beside each other as a measure of
what chance does.
"""

from __future__ import annotations

import argparse
import os
import statistics
from functools import partial

import torch

from benchmarks.results import machine
from benchmarks.trainers.trainings import TRAINERS
from benchmarks.trainers.turns import Turns

BLOCK = 5
WARM_BLOCKS = 4
"""Left out: imports, the first copies of the state, the update sizes that are always measured."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainers", nargs="*", default=["lightning", "transformers", "accelerate"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["STEADYGRAD_QUIET"] = "1"
    print(machine(1))
    print("| trainer | step, plain (ms) | guarded to plain | single comparisons | plain to plain |")
    print("| --- | ---: | ---: | --- | --- |")
    for name in options.trainers:
        print(_row(name, options.steps, options.repeats), flush=True)


def _row(name: str, steps: int, repeats: int) -> str:
    guarded: list[float] = []
    chance: list[float] = []
    step_ms = 0.0
    for _ in range(repeats):
        ahead, step_ms = _compared(name, steps, guarded=(False, True))
        behind, _ = _compared(name, steps, guarded=(True, False))
        guarded += [ahead, 1 / behind]
        chance.append(_compared(name, steps, guarded=(False, False))[0])
    mean = statistics.geometric_mean(guarded)
    return f"| {name} | {step_ms:.0f} | {_percent(mean)} | {_span(guarded)} | {_span(chance)} |"


def _compared(name: str, steps: int, *, guarded: tuple[bool, bool]) -> tuple[float, float]:
    """Processor time of the second training to that of the first, and ms of a step of the first."""
    turns = Turns(BLOCK)
    turns.run(*(partial(TRAINERS[name], steps=steps, guarded=one) for one in guarded))
    pairs = list(zip(*turns.blocks_s, strict=False))[WARM_BLOCKS:]
    ratio = statistics.median(second / first for first, second in pairs)
    return ratio, 1000 * statistics.median(first for first, _ in pairs) / BLOCK


def _span(ratios: list[float]) -> str:
    return f"{_percent(min(ratios))} to {_percent(max(ratios))}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


if __name__ == "__main__":
    main()
