"""How often the diagnosis of a faulty training is right, and how seldom a healthy one is suspected.

python -m benchmarks.faults
python -m benchmarks.faults --quick --dry
python -m benchmarks.faults --family vision --family "healthy cnn" --misses --dry
python -m benchmarks.faults --jobs 2 --records faults.jsonl --table faults.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.faults.case import CASES
from benchmarks.faults.drive import QUICK, answered, chosen
from benchmarks.faults.tables import details, misses, report
from benchmarks.results import machine, write_section


def main() -> None:
    """Run the cases and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", action="append", default=[], help="only this family; may be repeated")
    parser.add_argument("--case", action="append", default=[], help="only this case; may be repeated")
    parser.add_argument("--quick", action="store_true", help=f"every {QUICK}th case, print only")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with one thread (default 1)")
    parser.add_argument("--records", type=Path, help="file of records: written, and gone on with if there")
    parser.add_argument("--table", type=Path, help="write one row a case to this file")
    parser.add_argument("--misses", action="store_true", help="list the cases that weren't right")
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    cases = chosen(options.family, options.case, quick=options.quick)
    if not cases:
        raise SystemExit(f"no such case; families: {', '.join(dict.fromkeys(c.family for c in CASES))}")
    answers = list(answered(cases, options.jobs, options.records))
    text = report(answers)
    print(text)
    if options.misses:
        print("\n" + "\n".join(misses(answers)))
    if options.table is not None:
        options.table.write_text(details(answers) + "\n", encoding="utf-8")
    if not (options.dry or options.quick or options.family or options.case):
        write_section("faults", f"{machine(1)}\n\n{text}")


if __name__ == "__main__":
    main()
