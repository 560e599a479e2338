"""Does the remedy that `Checkup.try_remedies` puts first make the training train?

The trial sees one batch. So its first remedy is applied to a fresh copy here, and that is trained on the case's own
batches: it trains where the loss ends below `LEARNT` of what a constant guess gets on the first batch.

python -m benchmarks.faults.remedies
python -m benchmarks.faults.remedies --family rate --dry
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch import Tensor

import steadygrad as sg
from benchmarks.faults.case import CASES
from benchmarks.faults.drive import chosen
from benchmarks.faults.score import share
from benchmarks.faults.split import PARTS, half
from benchmarks.faults.training import Training
from benchmarks.results import machine, write_section
from steadygrad.checkup.rehearsal import copied
from steadygrad.checkup.remedies import Trial

STEPS = 150
LEARNT = 0.8
"""Further below a constant guess than noise leads within so few steps."""


def main() -> None:
    """Try the curable cases and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", action="append", default=[], help="only this family; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with one thread (default 1)")
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    lines = [
        "| family | | case | first remedy | loss left of a guess's |",
        "| --- | --- | --- | --- | ---: |",
    ]
    cured: dict[str, list[bool]] = {name: [] for name in PARTS}
    cases = [case for case in chosen(options.family, [], quick=False) if case.curable]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        answers = list(pool.map(tried, [case.name for case in cases]))
    for case, (remedy, left) in zip(cases, answers, strict=True):
        where = half(case.family)
        cured[where].append(left < LEARNT)
        lines.append(f"| {case.family} | {where} | {case.name} | {remedy} | {left:.2g} |")
        print(lines[-1])
    head = "; ".join(f"{where}: {share(flags)}" for where, flags in cured.items() if flags)
    print(head)
    if not (options.dry or options.family):
        write_section(
            "remedies", f"{machine(1)}\n\nThe first remedy makes it train: {head}.\n\n" + "\n".join(lines)
        )


def tried(name: str) -> tuple[str, float]:
    """The first remedy, and the share of a constant guess's loss that is left with it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    case = next(case for case in CASES if case.name == name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        training = case.build()
        inputs, targets = training.batches(0)
        checkup = sg.check(training.model, inputs, _loss(training, targets), training.optimizers[0])
        first = next(iter(checkup.try_remedies()), None)
        return ("none", math.inf) if first is None else (first.remedy.action, _left(training, first))


def _left(training: Training, trial: Trial) -> float:
    """Loss at the end of a training with the remedy, as a share of a constant guess's."""
    inputs, targets = training.batches(0)
    setup = copied(training.model, training.optimizers[0], inputs, _loss(training, targets))
    assert trial.plan is not None
    trial.plan.apply(setup)
    losses = []
    with setup.running():
        for step in range(STEPS):
            inputs, targets = training.batches(step)
            losses.append(setup.step(inputs, _loss(training, targets), step))
            if not math.isfinite(losses[-1]):
                return math.inf
    bound = trial.guess if trial.guess > 0 else abs(trial.loss_before)
    return statistics.median(losses[-STEPS // 5 :]) / bound


def _loss(training: Training, targets: Any) -> Callable[[Any], Tensor]:
    return lambda output: training.loss(output, targets)


if __name__ == "__main__":
    main()
