"""What a guard costs in the mean of a long run: copies of the state, probes and all that falls on a few steps.

A guarded training and a plain one take turns in blocks of ten steps, in an order drawn anew for each pair, so the
machine's ups and downs meet both alike. Shown is the mean over every step from the very first on, with the standard
error of the blocks' paired differences, and the same without the early steps, whose copies and probes are made
whatever they cost and paid off later.

    python -m benchmarks.long_run                     # 1,000 steps each, transformer and LSTM: five minutes
    python -m benchmarks.long_run lstm --steps 3000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

import steadygrad as sg
from benchmarks.results import machine, write_section
from benchmarks.workloads import OPTIMIZERS, WORKLOADS, Training, make

BLOCK = 10
EARLY_STEPS = 128
"""As `steadygrad.measure.probe.EARLY_STEPS`: until then probes come at doubling spacing, whatever they cost."""


def run(workload: str, optimizer: str, steps: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Train both side by side.

    Returns:
        Mean seconds of a step in each block, plain and guarded, and what the guard says of its copies.
    """
    plain, guarded = make(workload, optimizer), make(workload, optimizer)
    order = np.random.default_rng(0)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        _block(plain, BLOCK)  # wakes the machine up; the guard's first step counts
        with sg.guard(guarded.model, guarded.optimizer, run=Path(folder) / "long.steady") as guard:
            for _ in track(range(steps // BLOCK), f"{workload}, {optimizer}", transient=True):
                for is_guarded in order.permutation([False, True]).tolist():
                    seconds[is_guarded].append(_block(guarded if is_guarded else plain, BLOCK))
            told = [
                line.strip() for line in guard.summary().splitlines() if line.strip().startswith("recovery:")
            ]
    return np.array(seconds[False]), np.array(seconds[True]), "".join(told)


def _block(training: Training, steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        training.optimizer.zero_grad()
        training.backward()
        training.optimizer.step()
    return (time.perf_counter() - began) / steps


def row(workload: str, optimizer: str, plain: np.ndarray, guarded: np.ndarray) -> str:
    """One line of the table."""
    early = -(-EARLY_STEPS // BLOCK)
    cells = [f"{workload}, {optimizer}", f"{BLOCK * len(plain):,}", f"{plain.mean() * 1e3:.2f}"]
    for first in (0, early):
        added = guarded[first:] - plain[first:]
        error = added.std() / np.sqrt(len(added))
        whole = plain[first:].mean()
        cells += [f"{added.mean() * 1e6:+,.0f} ± {error * 1e6:,.0f}"]
        cells += [f"{1.0 + added.mean() / whole:.4f} ± {error / whole:.4f}"]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| workload | steps | plain step, ms | mean of all: added, us | step time / plain | "
    f"from step {-(-EARLY_STEPS // BLOCK) * BLOCK} on: added, us | step time / plain |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
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
    if options.steps < 2 * EARLY_STEPS:
        parser.error(
            f"--steps {options.steps}: expected at least {2 * EARLY_STEPS}, for a mean without the early ones"
        )
    torch.set_num_threads(options.threads)
    rows, notes = [HEAD], []
    print(HEAD, flush=True)
    for workload in options.workload or ("transformer", "lstm"):
        for optimizer in options.optimizer or ("adamw_fused",):
            plain, guarded, told = run(workload, optimizer, options.steps)
            rows.append(row(workload, optimizer, plain, guarded))
            notes.append(f"{workload}, {optimizer}: {told or 'no copies were made'}.")
            print(rows[-1], notes[-1], sep="\n", flush=True)
    if not options.dry:
        text = [machine(options.threads), "\n".join(rows), "\n".join(f"- {note}" for note in notes)]
        write_section("long-run", "\n\n".join(text))


if __name__ == "__main__":
    main()
