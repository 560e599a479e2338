"""Which way of clipping keeps unstable trainings alive, and harms none.

python -m benchmarks.survival --quick          a few minutes, two seeds, natural scale
python -m benchmarks.survival                  all: hours; goes on where it was
python -m benchmarks.survival --tables         only draw what has been measured
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import machine, write_section
from benchmarks.survival import tables
from benchmarks.survival.contenders import CONTENDERS
from benchmarks.survival.controls import controls
from benchmarks.survival.judge import CONSTANTS, best_constant
from benchmarks.survival.store import Cell, fill, load
from benchmarks.survival.unstable import unstable
from benchmarks.survival.workload import Workload

HERE = Path(__file__).parent
SCALES = (1.0, 1e-3, 1e3)
# A constant that was chosen on the seeds it is judged on would have had a look at the answers.
TUNING_SEEDS, JUDGING_SEEDS = (0, 1, 2), (10, 11, 12, 13, 14)
QUICK = (
    "char_rnn",
    "bad_init_mlp",
    "rate_bug_sgd",
    "outliers_sgd",
    "outliers_adam",
    "mlp_sgd",
    "taught_adamw",
    "cnn_norm_sgd",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="eight workloads, two seeds, natural scale")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    parser.add_argument("--only", nargs="*", help="names of workloads")
    parser.add_argument("--contenders", nargs="*", help="names of contenders")
    parser.add_argument("--scales", nargs="*", type=float, default=SCALES, help="loss scales")
    parser.add_argument(
        "--seeds", type=int, default=len(JUDGING_SEEDS), help="judging seeds; -3: the last three"
    )
    parser.add_argument(
        "--judge", nargs="*", type=int, help="these judging seeds instead, which nobody has seen"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("steadygrad-runs/survival.jsonl"))
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    if options.quick:
        options.only, options.scales, options.seeds = list(QUICK), (1.0,), 2
    chosen = [one for one in [*unstable(), *controls()] if not options.only or one.name in options.only]
    names = options.contenders or list(CONTENDERS)
    judging = JUDGING_SEEDS[: options.seeds] if options.seeds > 0 else JUDGING_SEEDS[options.seeds :]
    seeds, tuning = options.judge or judging, TUNING_SEEDS[:2] if options.quick else TUNING_SEEDS
    places = [(one, scale) for one in chosen for scale in _scales(one, options.scales)]
    if options.tables:
        results = load(options.out)
    else:
        grid = [
            Cell(one.name, name, 1.0, seed)
            for one in chosen
            if not one.stable
            for name in (*CONSTANTS, "skip")
            for seed in tuning
        ]
        results = fill(grid, options.out, options.workers)
        fields = [
            Cell(one.name, name, scale, seed)
            for one, scale in places
            for name in [*names, *([] if one.stable else [best_constant(results, one, scale, tuning)])]
            for seed in seeds
        ]
        results = fill(dict.fromkeys(fields), options.out, options.workers)
    text = report(results, chosen, names, options.scales, tuning, seeds)
    print(text)
    if not options.dry and not options.quick and not options.only:
        write_section("survival", text)


def _scales(workload: Workload, scales: Sequence[float]) -> Sequence[float]:
    return scales if workload.scaled and not workload.stable else scales[:1]


def report(
    results: dict[str, object], chosen: Sequence[Workload], names: Sequence[str], scales: Sequence[float],
    tuning: Sequence[int], seeds: Sequence[int],
) -> str:  # fmt: skip
    """Everything as text, and the picture beside it."""
    ill = [one for one in chosen if not one.stable]
    found, best = tables.judged(results, ill, names, scales, tuning, seeds)  # type: ignore[arg-type]
    ill_names = [one.name for one in ill]
    lines = [machine(1), "", *tables.summary(found, names, ill_names), ""]
    lines += [
        *tables.each(found, best, names, ill),
        "",
        *tables.harm(results, [one for one in chosen if one.stable], names, seeds),
    ]  # type: ignore[arg-type]
    if len(ill) > len(QUICK):
        tables.profile(found, names, ill_names, HERE / "profile.png")
        lines += ["", "![share of places by regret](survival/profile.png)"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
