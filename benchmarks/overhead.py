"""What watching costs: the same training under each variant, step by step in turn.

One process; the variants take turns at every step, so the machine's ups and downs meet all of them
alike, and each step is compared with the plain step of the same round. Shown is the median of those
paired differences with its standard error: over the whole step, and from the end of the backward pass
on, which is where clipping and steadygrad work and where less noise hides what they add. The mean of the
latter stands beside it: copies of the state and update probes fall on a few steps, which a median leaves out.

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
WHOLE, TAIL = 0, 1


def measure(workload: str, optimizer: str, variants: Sequence[str], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each round ``[rounds, 2]``, by variant: whole step, and after its backward pass."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    with contextlib.ExitStack() as stack:
        steps = {name: stack.enter_context(opened(name, make(workload, optimizer))) for name in variants}
        order = np.random.default_rng(0)
        for round_ in track(range(rounds + WARM_UP), f"{workload}, {optimizer}", transient=True):
            # A new order each round, so that nobody always runs in the wake of the same neighbour, whose
            # threads may still be writing and whose weights fill the caches.
            for name in order.permutation(list(steps)):
                elapsed = _timed(steps[name])
                if round_ >= WARM_UP:
                    seconds[name].append(elapsed)
    return {name: np.array(values) for name, values in seconds.items()}


def _timed(step: Step) -> tuple[float, float]:
    began = time.perf_counter()
    ready = step()
    ended = time.perf_counter()
    return ended - began, ended - ready


def table(workload: str, optimizer: str, seconds: dict[str, np.ndarray]) -> str:
    """One workload's result as Markdown."""
    plain = seconds.pop("plain")
    added = {name: values - plain for name, values in seconds.items()}
    whole_step = float(np.median(plain[:, WHOLE]))
    clip = float(np.median(added["clip_grad_norm_"][:, TAIL]))
    lines = [
        f"### {workload}, {optimizer}: plain step {whole_step * 1e3:.2f} ms, {len(plain)} rounds",
        "",
        (
            "| variant | whole step: added, us | step time / plain | after backward: added, us | "
            "step time / plain | added / clip_grad_norm_ | mean, us |"
        ),
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, extra in added.items():
        cells = [name]
        for part in (WHOLE, TAIL):
            median = float(np.median(extra[:, part]))
            cells += [f"{median * 1e6:+,.0f} ± {_median_error(extra[:, part]) * 1e6:,.0f}"]
            cells += [f"{1.0 + median / whole_step:.3f}"]
        cells += [f"{np.median(extra[:, TAIL]) / clip:.2f}"]
        mean, error = extra[:, TAIL].mean(), extra[:, TAIL].std() / np.sqrt(len(extra))
        cells += [f"{mean * 1e6:+,.0f} ± {error * 1e6:,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _median_error(values: np.ndarray) -> float:
    """Standard error of a median, from the quartiles, which outliers don't move."""
    low, high = np.percentile(values, [25, 75])
    return float(1.2533 * (high - low) / 1.349 / np.sqrt(len(values)))


def main() -> None:
    """Measure and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", choices=[*WORKLOADS, []], help="default: all")
    parser.add_argument("--optimizer", action="append", choices=list(OPTIMIZERS), help="default: all")
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), help="default: all")
    parser.add_argument("--rounds", type=int, help="rounds for each workload")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts = []
    for workload in options.workload or WORKLOADS:
        for optimizer in options.optimizer or OPTIMIZERS:
            variants = options.variant or (LARGE_VARIANTS if workload == "large" else tuple(VARIANTS))
            rounds = options.rounds or ROUNDS[workload]
            parts.append(table(workload, optimizer, measure(workload, optimizer, variants, rounds)))
            print(parts[-1], end="\n\n", flush=True)
    if not options.dry:
        write_section("overhead", f"{machine(options.threads)}\n\n" + "\n\n".join(parts))


if __name__ == "__main__":
    main()
