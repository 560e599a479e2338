"""How often the origin is exact.

python -m benchmarks.origins
python -m benchmarks.origins --verbose --dry
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import torch

from benchmarks.origins.cases import Answer, Case, answer, cases
from benchmarks.origins.faults import LEGAL
from benchmarks.origins.models import MODELS, Faulty
from benchmarks.results import write_section
from steadygrad.tracing import trace


def main() -> None:
    """Trace every case and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--verbose", action="store_true", help="list the cases that weren't exact")
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    began = time.perf_counter()
    answers = {case: answer(case) for case in cases()}
    seconds = (time.perf_counter() - began) / len(answers)
    if options.verbose:
        for case, one in answers.items():
            if not one.exact:
                print(case, one)
    text = "\n".join([*_table(answers), "", _controls(), f"{seconds * 1e3:.0f} ms a case."])
    print(text)
    if not options.dry:
        write_section("origins", text)


def _table(answers: dict[Case, Answer]) -> list[str]:
    groups: dict[str, list[Answer]] = defaultdict(list)
    for case, one in answers.items():
        groups[f"{case.phase}, {case.mode}"].append(one)
    groups["all"] = list(answers.values())
    head = [
        "| phase, mode | cases | operation | module | line | phase | all four |",
        "| --- |" + " ---: |" * 6,
    ]
    return head + [_row(name, group) for name, group in groups.items()]


def _row(name: str, group: list[Answer]) -> str:
    parts = ("operation", "module", "line", "phase", "exact")
    shares = [f"{sum(getattr(one, part) for one in group) / len(group):.1%}" for part in parts]
    return f"| {name} | {len(group)} | {' | '.join(shares)} |"


def _controls() -> str:
    silent = total = 0
    for function in LEGAL:
        for builder in MODELS.values():
            torch.manual_seed(0)
            model, batch, loss_fn, _ = builder(Faulty(function))
            silent += trace(model, batch, loss_fn) is None
            total += 1
    return f"Legal infinities (masks, branches left out, unwritten memory): nothing blamed in {silent} of {total}."


if __name__ == "__main__":
    main()
