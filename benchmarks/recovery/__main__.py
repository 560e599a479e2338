"""How many trainings recover from a fault that is put into them, and how.

python -m benchmarks.recovery --quick     three minutes: some trainings, one seed
python -m benchmarks.recovery --judging   trainings that had no part in choosing recovery's constants
python -m benchmarks.recovery             all, on one core in less than half an hour; goes on where it was
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.recovery.injections import injections
from benchmarks.recovery.store import Cell, fill, load
from benchmarks.recovery.tables import recovered_after, table, twin_of
from benchmarks.recovery.trainings import trainings
from benchmarks.recovery.trial import Result
from benchmarks.results import machine, write_section

CONTENDERS = ("plain", "clip", "guard")
STEPS = (5, 100, 400)
BASELINE = 100
"""What becomes of a fault without a guard is much the same everywhere: it is measured at one step of one seed."""
SEEDS = (10, 11, 12)
QUICK = ("digits_cnn_sgd", "text_gru_sgd", "table_norm_adam")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three trainings, one seed, one step")
    parser.add_argument("--judging", action="store_true", help="none on which constants were chosen")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    parser.add_argument("--only", nargs="*", help="names of trainings")
    parser.add_argument("--faults", nargs="*", help="names of faults")
    parser.add_argument("--contenders", nargs="*", default=CONTENDERS)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--steps", nargs="*", type=int, default=STEPS, help="steps of the fault")
    parser.add_argument("--misses", action="store_true", help="list what did not recover under the guard")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("steadygrad-runs/recovery.jsonl"))
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    if options.quick:
        options.only, options.seeds, options.steps = list(QUICK), SEEDS[:1], STEPS[1:2]
    judging = [name for name, one in trainings().items() if not one.tuning]
    names = options.only or (judging if options.judging else list(trainings()))
    cells = cells_of(
        names, options.faults or list(injections()), options.contenders, options.steps, options.seeds
    )
    results = load(options.out) if options.tables else fill(cells, options.out, options.workers)
    text = "\n".join(report(results, cells, options.contenders))
    print(text)
    if options.misses:
        print("\n".join(_misses(results, cells)))
    if not (options.dry or options.quick or options.only or options.faults):
        write_section("recovery", text)


def cells_of(
    names: Sequence[str],
    faults: Sequence[str],
    contenders: Sequence[str],
    steps: Sequence[int],
    seeds: Sequence[int],
) -> list[Cell]:
    """Every training to be made: with faults, without, and disturbed."""
    found = []
    for name in names:
        training = trainings()[name]
        model = training.build()
        optimizer = training.optimizer(model)
        fitting = [
            fault
            for fault in faults
            if injections()[fault].fits(model, optimizer) and not _is_blind(name, fault)
        ]
        for at in steps:
            for seed in seeds:
                is_baseline = len(steps) == 1 or (at == BASELINE and seed == seeds[0])
                taking_part = [one for one in contenders if is_baseline or one == "guard"]
                found += [Cell(name, one, fault, at, seed) for fault in fitting for one in taking_part]
                found += [Cell(name, one, "", at, seed) for one in ("plain", "disturbed")]
    return found


def _is_blind(training: str, fault: str) -> bool:
    """Letters can't be NaN."""
    return training.startswith("text") and fault in {"NaN batch", "Inf batch"}


def report(results: dict[str, Result], cells: Sequence[Cell], contenders: Sequence[str]) -> list[str]:
    """Everything as text."""
    struck = [cell for cell in cells if cell.fault]
    judging = [cell for cell in struck if not trainings()[cell.training].tuning]
    guarded = [cell for cell in struck if cell.contender == "guard"]
    groups = {f"{one}, all": [cell for cell in struck if cell.contender == one] for one in contenders}
    if len(judging) < len(struck):
        groups |= {
            f"{one}, judging": [cell for cell in judging if cell.contender == one] for one in contenders
        }
    groups["no fault, 30 batches left out"] = [cell for cell in cells if cell.contender == "disturbed"]
    lines = [machine(1), "", *table(results, groups), "", "With the guard, by fault:", ""]
    faults = {one: [cell for cell in guarded if cell.fault == one] for one in injections()}
    lines += [*table(results, faults), "", "With the guard, by training:", ""]
    by_name = {one: [cell for cell in guarded if cell.training == one] for one in trainings()}
    lines += [*table(results, by_name), "", "With the guard, by step of the fault:", ""]
    by_step = {
        f"step {at}": [cell for cell in guarded if cell.at == at] for at in sorted({c.at for c in cells})
    }
    return [*lines, *table(results, by_step)]


def _misses(results: dict[str, Result], cells: Sequence[Cell]) -> list[str]:
    lines = []
    for cell in cells:
        if cell.contender != "guard" or cell.key not in results or twin_of(cell).key not in results:
            continue
        result, twin = results[cell.key], results[twin_of(cell).key]
        ratio = result.final / twin.final
        late = recovered_after(result, twin) is None
        if late or ratio > 1.05:
            after = " ".join(
                f"{loss:.3g}/{theirs:.3g}" for loss, theirs in zip(result.after, twin.after, strict=False)
            )
            lines.append(
                f"{'LATE ' if late else '     '}{cell.key}: final {ratio:.3f}, before {twin.before:.3g}, after {after}, "
                f"{result.rollbacks} rollbacks, {result.repairs} repairs{', stopped' if result.stopped else ''}"
            )
    return lines


if __name__ == "__main__":
    main()
