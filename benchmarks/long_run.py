"""What a guard costs in the mean of a long run: copies of the state, probes and all that falls on a few steps.

A guarded training and a plain one take turns in blocks of ten steps, in an order drawn anew for each pair, so the
machine's ups and downs meet both alike. After half of the time the guard is closed, and a new one watches the other
training: where the allocator put the one model can make it some percent slower for good, and this way it counts
once for the guard and once against. Shown is the mean over every step from each guard's very first on, with the
standard error of the blocks' paired differences, and the same without the early steps, whose copies and probes are
made whatever they cost and paid off later. How far the halves lie apart says what the placement does.

    python -m benchmarks.long_run                     # twice 500 steps, transformer and LSTM: five minutes
    python -m benchmarks.long_run lstm --steps 3000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import track

import steadygrad as sg
from benchmarks.results import machine, write_section
from benchmarks.workloads import OPTIMIZERS, WORKLOADS, Training, make

BLOCK = 10
EARLY_STEPS = 128
"""As `steadygrad.measure.probe.EARLY_STEPS`: until then probes come at doubling spacing, whatever they cost."""


class Half(NamedTuple):
    """Mean seconds of a step in each block, of the plain and the guarded training, and what the guard says of its copies."""

    plain: np.ndarray
    guarded: np.ndarray
    told: str

    def ratio(self) -> float:
        """Step time of the guarded to that of the plain training."""
        return float(self.guarded.mean() / self.plain.mean())


def run(workload: str, optimizer: str, steps: int) -> list[Half]:
    """Train two side by side, first the one guarded and then the other, half of the steps each."""
    one, other = make(workload, optimizer), make(workload, optimizer)
    for training in (one, other):
        _block(training, BLOCK)  # wakes the machine up and makes the moments; each guard's first step counts
    order = np.random.default_rng(0)
    blocks = steps // 2 // BLOCK
    return [
        _half(plain, guarded, blocks, order, f"{workload}, {optimizer}: guard on the {which}")
        for plain, guarded, which in ((one, other, "second"), (other, one, "first"))
    ]


def _half(plain: Training, guarded: Training, blocks: int, order: np.random.Generator, title: str) -> Half:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with (
        tempfile.TemporaryDirectory() as folder,
        sg.guard(guarded.model, guarded.optimizer, run=Path(folder) / "long.steady") as guard,
    ):
        for _ in track(range(blocks), title, transient=True):
            for is_guarded in order.permutation([False, True]).tolist():
                seconds[is_guarded].append(_block(guarded if is_guarded else plain, BLOCK))
        lines = (line.strip() for line in guard.summary().splitlines())
        told = "".join(line for line in lines if line.startswith("recovery:"))
    return Half(np.array(seconds[False]), np.array(seconds[True]), told)


def _block(training: Training, steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        training.optimizer.zero_grad()
        training.backward()
        training.optimizer.step()
    return (time.perf_counter() - began) / steps


def row(workload: str, optimizer: str, halves: list[Half]) -> str:
    """One line of the table."""
    early = -(-EARLY_STEPS // BLOCK)
    blocks = sum(len(half.plain) for half in halves)
    mean_ms = 1e3 * np.mean([half.plain.mean() for half in halves])
    cells = [f"{workload}, {optimizer}", f"{BLOCK * blocks:,}", f"{mean_ms:.2f}"]
    for first in (0, early):
        added = np.concatenate([half.guarded[first:] - half.plain[first:] for half in halves])
        error = np.sqrt(
            np.mean([np.var(half.guarded[first:] - half.plain[first:]) for half in halves]) / len(added)
        )
        whole = np.concatenate([half.plain[first:] for half in halves]).mean()
        cells += [f"{added.mean() * 1e6:+,.0f} ± {error * 1e6:,.0f}"]
        cells += [f"{1.0 + added.mean() / whole:.4f} ± {error / whole:.4f}"]
    cells.append(" and ".join(f"{half.ratio():.4f}" for half in halves))
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| workload | steps | plain step, ms | mean of all: added, us | step time / plain | "
    f"from step {-(-EARLY_STEPS // BLOCK) * BLOCK} on: added, us | step time / plain | all, by half |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)


def main() -> None:
    """Measure and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", choices=[*WORKLOADS, []], help="default: transformer and lstm")
    parser.add_argument("--optimizer", action="append", choices=list(OPTIMIZERS), help="default: adamw_fused")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    if options.steps < 4 * EARLY_STEPS:
        parser.error(
            f"--steps {options.steps}: expected at least {4 * EARLY_STEPS}, for a mean without the early ones"
        )
    torch.set_num_threads(options.threads)
    rows, notes = [HEAD], []
    print(HEAD, flush=True)
    for workload in options.workload or ("transformer", "lstm"):
        for optimizer in options.optimizer or ("adamw_fused",):
            halves = run(workload, optimizer, options.steps)
            rows.append(row(workload, optimizer, halves))
            notes.append(f"{workload}, {optimizer}: {halves[-1].told or 'no copies were made'}.")
            print(rows[-1], notes[-1], sep="\n", flush=True)
    if not options.dry:
        text = [machine(options.threads), "\n".join(rows), "\n".join(f"- {note}" for note in notes)]
        write_section("long-run", "\n\n".join(text))


if __name__ == "__main__":
    main()
