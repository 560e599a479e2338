"""What a run file of a long training weighs: 10^6 steps of 1,000 tensors, written by the recorder as in a training.

    python -m benchmarks.long_runs
    python -m benchmarks.long_runs --steps 100000 --dry

CPU time is that of the whole process, less that of making the same numbers without writing them down. Memory is
the process's peak.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.report import SPIKE, infos, readings, record
from benchmarks.results import machine, write_section
from steadygrad.runfile import open_run

TENSORS = 1_000
CAP_MB = 64


def main() -> None:
    """Write the run, read it back, and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    options = parser.parse_args()
    steps = options.steps
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.steady"
        began = time.process_time()
        record(path, steps, TENSORS)
        wrote = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        made = _making(min(steps, 20_000)) * steps
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        run = open_run(path)
        rows = len(run.steps)
        # A row of many steps has their mean as its total norm: a single step is in its largest, a NaN in its count.
        is_spike_kept = float(np.nanmax(run.total_norm_max) / np.nanmedian(run.total_norm)) > SPIKE / 2
        is_nan_kept = bool(run.nonfinite_count.any())
    told = f"{'yes' if is_spike_kept else 'NO'} | {'yes' if is_nan_kept else 'NO'}"
    lines = [
        "| steps x tensors | file, MB (cap 64) | CPU to write a step, us | peak memory, MB | rows kept | spike of one step kept | NaN kept |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
        f"| {steps:,} x {TENSORS:,} | {size:.1f} | {(wrote - made) / steps * 1e6:.0f} | {peak:.0f} | {rows:,} | {told} |",
    ]
    text = "\n".join(lines)
    print(text)
    if size > CAP_MB * 1.05:
        raise SystemExit(f"the file is larger than its cap of {CAP_MB} MB")
    if not options.dry:
        write_section("long runs", f"{machine(1)}\n\n{text}")


def _making(steps: int) -> float:
    """CPU seconds a step of making the numbers alone."""
    began = time.process_time()
    for _ in readings(steps, len(infos(TENSORS))):
        pass
    return (time.process_time() - began) / steps


if __name__ == "__main__":
    main()
