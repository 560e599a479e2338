"""What the guard costs inside each trainer: plain and guarded, in turn, in one process.

    python -m benchmarks.trainers                                 Lightning, Transformers, Accelerate
    .venv-vision/bin/python -m benchmarks.trainers timm ultralytics    in the vision environment

Guarded means as each integration attaches it: with a run file, and with recovery on. Blocks of five steps of both
trainings alternate; a row gives processor time, so that what else the machine does counts for neither.
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
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["STEADYGRAD_QUIET"] = "1"
    print(machine(1))
    print("| trainer | step, plain (ms) | median | mean | middle half of the blocks |")
    print("| --- | ---: | ---: | ---: | --- |")
    for name in options.trainers:
        print(_row(name, options.steps), flush=True)


def _row(name: str, steps: int) -> str:
    turns = Turns(BLOCK)
    plain, guarded = (partial(TRAINERS[name], steps=steps, guarded=guarded) for guarded in (False, True))
    turns.run(plain, guarded)
    pairs = list(zip(*turns.blocks_s, strict=False))[WARM_BLOCKS:]
    ratios = [with_guard / without for without, with_guard in pairs]
    low, _, high = statistics.quantiles(ratios, n=4)
    mean = sum(one for _, one in pairs) / sum(one for one, _ in pairs)
    step_ms = 1000 * statistics.median(without for without, _ in pairs) / BLOCK
    shares = f"{_percent(statistics.median(ratios))} | {_percent(mean)} | {_percent(low)} to {_percent(high)}"
    return f"| {name} | {step_ms:.0f} | {shares} |"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


if __name__ == "__main__":
    main()
