"""What watching costs: the same training under each variant, step by step in turn.

One process; the variants take turns at every step, so the machine's ups and downs meet all of them
alike, and each step is compared with the plain step of the same round. Shown is the median of those
paired differences, and its ratio to what ``clip_grad_norm_`` adds on the same rounds.

    python -m benchmarks.overhead                      # everything, about ten minutes
    python -m benchmarks.overhead lstm --optimizer adamw_fused --rounds 100
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence

import numpy as np
import torch
from rich.progress import track

from benchmarks.results import machine, write_section
from benchmarks.variants import VARIANTS, Step, opened
from benchmarks.workloads import OPTIMIZERS, WORKLOADS, make

WARM_UP = 8
ROUNDS = {"transformer": 120, "lstm": 200, "deep_mlp": 200, "large": 30}
# 200 million parameters and their moments, once a variant: all eight would need 20 GB.
LARGE_VARIANTS = ("plain", "clip_grad_norm_", "sg.guard")


def measure(workload: str, optimizer: str, variants: Sequence[str], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each round, by variant."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with contextlib.ExitStack() as stack:
        steps = {name: stack.enter_context(opened(name, make(workload, optimizer))) for name in variants}
        for round_ in track(range(rounds + WARM_UP), f"{workload}, {optimizer}", transient=True):
            # The order turns too, so that nobody always runs in the wake of the same neighbour.
            for name in _turned(list(steps), round_):
                elapsed = _timed(steps[name])
                if round_ >= WARM_UP:
                    seconds[name].append(elapsed)
    return {name: np.array(values) for name, values in seconds.items()}


def _turned(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def _timed(step: Step) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def table(workload: str, optimizer: str, seconds: dict[str, np.ndarray]) -> str:
    """One workload's result as Markdown."""
    plain = seconds["plain"]
    added = {name: float(np.median(values - plain)) for name, values in seconds.items() if name != "plain"}
    clip = added["clip_grad_norm_"]
    lines = [
        f"### {workload}, {optimizer}: plain step {np.median(plain) * 1e3:.2f} ms, {len(plain)} rounds",
        "",
        "| variant | added, us | step time / plain | added / clip_grad_norm_ |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, extra in added.items():
        ratio = 1.0 + extra / float(np.median(plain))
        lines.append(f"| {name} | {extra * 1e6:+,.0f} | {ratio:.3f} | {extra / clip:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", choices=[*WORKLOADS, []], help="default: all")
    parser.add_argument("--optimizer", action="append", choices=list(OPTIMIZERS), help="default: all")
    parser.add_argument("--rounds", type=int, help="rounds for each workload")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts = []
    for workload in options.workload or WORKLOADS:
        for optimizer in options.optimizer or OPTIMIZERS:
            variants = LARGE_VARIANTS if workload == "large" else tuple(VARIANTS)
            rounds = options.rounds or ROUNDS[workload]
            parts.append(table(workload, optimizer, measure(workload, optimizer, variants, rounds)))
            print(parts[-1], end="\n\n", flush=True)
    if not options.dry:
        write_section("overhead", f"{machine(options.threads)}\n\n" + "\n\n".join(parts))


if __name__ == "__main__":
    main()
