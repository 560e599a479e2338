"""Is a healthy training left alone? Each one twice, plain and under the guard as it comes.

python -m benchmarks.untouched
"""

from __future__ import annotations

import argparse
import os
import warnings
from dataclasses import dataclass

import numpy as np
import torch

import steadygrad as sg
from benchmarks.faults import healthy  # noqa: F401 - importing registers the cases
from benchmarks.faults.case import CASES, Case
from benchmarks.results import machine, write_section
from steadygrad.summary import Counts

LAST = 10
"""Steps at the end whose mean loss is compared."""


@dataclass(frozen=True)
class Twin:
    """One training, without and with the guard."""

    case: Case
    plain: list[float]
    guarded: list[float]
    counts: Counts

    @property
    def same(self) -> bool:
        """Whether every loss is the same to the last bit."""
        return bool(np.array_equal(self.plain, self.guarded, equal_nan=True))


def main() -> None:
    """Train everything and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    os.environ["STEADYGRAD_QUIET"] = "1"
    torch.set_num_threads(1)
    twins = [twin(case) for case in CASES if not case.faulty]
    text = "\n".join([machine(1), "", *_table(twins)])
    print(text)
    if not options.dry:
        write_section("untouched", text)


def twin(case: Case) -> Twin:
    """Train a case twice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, _ = _losses(case, guarded=False)
        guarded, counts = _losses(case, guarded=True)
    return Twin(case, plain, guarded, counts)


def _losses(case: Case, *, guarded: bool) -> tuple[list[float], Counts]:
    torch.manual_seed(0)
    training = case.build()
    guard = sg.guard(training.model, training.optimizers, max_consecutive_skips=None) if guarded else None
    losses = []
    for step in range(case.steps):
        loss = training.step(step).detach()
        losses.append(float(loss))
        if guard is not None:
            guard.log(loss=loss)
    if guard is None:
        return losses, Counts()
    guard.detach()
    return losses, guard.counts


def _table(twins: list[Twin]) -> list[str]:
    same = sum(one.same for one in twins)
    lines = [f"{same} of {len(twins)} healthy trainings have the same losses to the last bit.", ""]
    changed = [one for one in twins if not one.same]
    if changed:
        lines += [
            "| training | steps | clipped | rate lowered | rollbacks | last losses, plain | guarded |",
            "| --- |" + " ---: |" * 6,
        ]
    for one in changed:
        plain, guarded = (np.mean(losses[-LAST:]) for losses in (one.plain, one.guarded))
        acts = f"{one.counts.clipped} | {one.counts.lowered} | {one.counts.rollbacks}"
        lines.append(f"| {one.case.name} | {one.case.steps} | {acts} | {plain:.4g} | {guarded:.4g} |")
    return lines


if __name__ == "__main__":
    main()
