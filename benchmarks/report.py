"""What a report costs: seconds, bytes and memory, and how soon its page can be used.

``python -m benchmarks.report`` records two long runs (once; some 15 minutes, kept in the folder named by
``--runs``), then makes the report of each in a process of its own, several times, and opens it in Chromium where that is
installed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.chromium import chromium, missing
from steadygrad.records import Reading, RunInfo, TensorInfo
from steadygrad.runfile import RunWriter

SIZES = ((100_000, 500), (1_000_000, 300))
PARTS = (
    "attn.qkv.weight",
    "attn.qkv.bias",
    "attn.out.weight",
    "mlp.up.weight",
    "mlp.down.weight",
    "norm.weight",
)
FLUSH_EVERY = 512
SPIKE = 1e4
"""Steps written before the recorder's thread is waited for: no training is as fast as this loop."""

MEASURE = """
import json, resource, sys, time
began = time.perf_counter()
from steadygrad.report.page import render
from steadygrad.runfile import open_run
imported = time.perf_counter()
text = render(open_run(sys.argv[1]))
done = time.perf_counter()
open(sys.argv[2], "w", encoding="utf-8").write(text)
print(json.dumps({
    "import_s": imported - began, "render_s": done - imported, "cpu_s": time.process_time(),
    "size_mb": len(text.encode()) / 1e6, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""
ZOOM = """
const done = arguments[0]
const models = [...Bokeh.documents[0]._all_models.values()]
const range = models.find((model) => model.name === "steps")
const [low, high] = range.bounds
let frames = 0
const began = performance.now()
function frame(now) {
  if (now - began > 3000) return done([frames, (now - began) / 1000])
  frames += 1
  const width = (high - low) * (0.3 + 0.25 * Math.cos(now / 300))
  range.setv({start: low, end: low + width})
  requestAnimationFrame(frame)
}
requestAnimationFrame(frame)
"""
READY = """
const done = arguments[0]
const look = () => typeof Bokeh !== "undefined" && Bokeh.documents.length && Bokeh.documents[0].is_idle
  ? done(performance.now()) : setTimeout(look, 5)
look()
"""


def record(path: Path, steps: int, tensors: int) -> None:
    """Write a run as a transformer would: noisy norms, one spike, one NaN."""
    info = RunInfo(path.stem, "guard", "auto()", 1.7e9, "GPT", ("AdamW",), infos(tensors))
    with RunWriter(path, info) as writer:
        for reading in readings(steps, tensors):
            writer.append(reading)
            if reading.step % FLUSH_EVERY == FLUSH_EVERY - 1:
                writer.flush(60)
    if writer.fault:
        raise SystemExit(writer.fault)


def infos(tensors: int) -> tuple[TensorInfo, ...]:
    """The tensors of a deep transformer."""
    names = [f"blocks.{i}.{part}" for i in range(tensors) for part in PARTS][:tensors]
    return tuple(TensorInfo(name, (256, 256) if "weight" in name else (256,)) for name in names)


def readings(steps: int, tensors: int) -> Iterator[Reading]:
    """What its training is measured to be."""
    rng = np.random.default_rng(0)
    usual = np.exp(rng.normal(-3, 1, tensors))
    for step in range(steps):
        yield _reading(step, steps, usual * np.exp(rng.normal(0, 0.2, tensors)))


def _reading(step: int, steps: int, norms: Any) -> Reading:
    if step == steps // 3:
        norms *= SPIKE
    if step == steps // 2:
        norms[5] = np.nan
    measured = norms if step % 1000 == 0 else None
    weights = None if measured is None else np.full(norms.size, 10.0)
    return Reading(
        step, norms.astype(np.float32), float(np.linalg.norm(norms)), cap=5.0, lr=1e-3, time_s=step * 0.05,
        loss=2.0 - step / steps, skipped=step == steps // 2, param_norms=weights, update_norms=measured,
    )  # fmt: skip


def measure(path: Path, page: Path, repeats: int) -> dict[str, float]:
    """Median of several processes, each of which makes the report once."""
    told = []
    for _ in range(repeats):
        made = subprocess.run(
            [sys.executable, "-c", MEASURE, path, page], check=True, capture_output=True, text=True
        )
        told.append(json.loads(made.stdout))
    return {key: statistics.median(one[key] for one in told) for key in told[0]}


def browse(page: Path, repeats: int) -> dict[str, float]:
    """Seconds until the page can be used, and frames a second while it zooms."""
    if missing():
        return {}
    told: dict[str, list[float]] = {
        "interactive_s": [],
        "page_cpu_s": [],
        "frames_per_s": [],
        "frame_cpu_ms": [],
    }
    with chromium() as driver:
        for _ in range(repeats):
            before = _busy(driver)
            driver.get(page.as_uri())
            told["interactive_s"].append(driver.execute_async_script(READY) / 1000)
            ready = _busy(driver)
            frames, seconds = driver.execute_async_script(ZOOM)
            told["page_cpu_s"].append(ready - before)
            told["frames_per_s"].append(frames / seconds)
            told["frame_cpu_ms"].append(1000 * (_busy(driver) - ready) / frames)
    return {key: statistics.median(values) for key, values in told.items()}


def _busy(driver: Any) -> float:
    """Seconds of CPU that the browser's processes have spent: unlike the clock, the same on a busy machine."""
    parents, spent = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            spent[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    mine = {driver.service.process.pid}
    while found := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= found
    return sum(spent.get(pid, 0) for pid in mine) / os.sysconf("SC_CLK_TCK")


def rows(folder: Path, repeats: int) -> Iterator[dict[str, Any]]:
    """Measure each size."""
    for steps, tensors in SIZES:
        path = folder / f"{steps}x{tensors}.steady"
        if not path.exists():
            print(f"recording {path}", flush=True)
            record(path, steps, tensors)
        page = path.with_suffix(".html")
        yield {"steps": steps, "tensors": tensors, **measure(path, page, repeats), **browse(page, repeats)}


def main() -> None:
    """Print one row a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "steadygrad-report-runs")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    print(f"{time.strftime('%Y-%m-%d')}")
    print(
        "| steps x tensors | import | report | CPU, both | size | peak memory | usable after (CPU) | zooming (CPU a frame) |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows(arguments.runs.absolute(), arguments.repeats):
        shown = (
            f"{row['steps']:,} x {row['tensors']}", f"{row['import_s']:.1f} s", f"{row['render_s']:.1f} s",
            f"{row['cpu_s']:.1f} s", f"{row['size_mb']:.1f} MB", f"{row['memory_mb']:.0f} MB",
            f"{row['interactive_s']:.2f} s ({row['page_cpu_s']:.2f} s)" if "interactive_s" in row else "-",
            f"{row['frames_per_s']:.0f} frames/s ({row['frame_cpu_ms']:.0f} ms)" if "frames_per_s" in row else "-",
        )  # fmt: skip
        print(f"| {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
