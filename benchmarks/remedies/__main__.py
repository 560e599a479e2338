"""How often a checkup alarms for nothing, and how often its first remedy makes a faulty training train.

python -m benchmarks.remedies
python -m benchmarks.remedies --dry
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

import torch

from benchmarks.remedies.healthy import HEALTHY
from benchmarks.remedies.judge import LEARNT, STEPS, trains
from benchmarks.remedies.recipes import RECIPES
from benchmarks.remedies.training import Builder, Training
from benchmarks.remedies.unseen import UNSEEN
from benchmarks.results import write_section
from steadygrad.checkup.remedies.trial import AS_IT_IS


def main() -> None:
    """Check, try and train; write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rule = (
        f"A training counts as faulty where {STEPS} steps on changing batches leave it above {LEARNT:.0%} of the loss of "
        "the best constant guess, and as cured where the first remedy of `try_remedies()` brings it below."
    )
    lines = [
        _alarms(),
        "",
        rule,
        "",
        "| trainings | faulty as they are | found | cured by the first remedy | not cured |",
        "| --- | ---: | ---: | ---: | --- |",
        _cures("on which the ranking was tuned", RECIPES),
        _cures("written afterwards", UNSEEN),
    ]
    text = "\n".join(lines)
    print(text)
    if not options.dry:
        write_section("checkup remedies", text)


def _fresh(build: Builder) -> Training:
    torch.manual_seed(0)
    return build()


def _alarms() -> str:
    alarmed = [name for name, build in HEALTHY.items() if not _fresh(build).check().ok]
    named = f" ({', '.join(alarmed)})" if alarmed else ""
    return f"Healthy trainings with a finding of severity warning or error: {len(alarmed)} of {len(HEALTHY)}{named}."


def _cures(title: str, builders: Mapping[str, Builder]) -> str:
    faulty = [name for name, build in builders.items() if not trains(_fresh(build), None)[0]]
    found, missed = 0, []
    for name in faulty:
        began = time.perf_counter()
        checkup = _fresh(builders[name]).check()
        trials = checkup.try_remedies()
        found += not checkup.ok
        first = next(trial for trial in trials if trial.remedy.action != AS_IT_IS)
        cured, share = trains(_fresh(builders[name]), first.plan)
        missed += [] if cured else [name]
        took = time.perf_counter() - began
        print(f"{'cured' if cured else 'NOT  '} {name} {share:.2g} {took:.1f} s {first.remedy}", flush=True)
    cured_count = len(faulty) - len(missed)
    share = cured_count / len(faulty)
    return (
        f"| {title} | {len(faulty)} of {len(builders)} | {found} | {cured_count} ({share:.0%}) | "
        f"{', '.join(missed) or '-'} |"
    )


if __name__ == "__main__":
    main()
