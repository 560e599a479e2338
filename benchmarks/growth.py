"""How cost and memory grow with the number of tensors: 100, 1,000, 10,000.

Only the optimizer's step is timed, on gradients that are already there: the guard's own cost has
nowhere to hide. Memory is what the process holds more after 2,000 guarded steps than after 200.

    python -m benchmarks.growth
    python -m benchmarks.growth --large
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

import steadygrad as sg
from benchmarks.results import machine, write_section

SIZES = (100, 1_000, 10_000)
NUMEL = 256
LARGE = ((1_000, 10_000), (1_000, 100_000), (1_000, 1_000_000), (10_000, 10_000), (10_000, 100_000))


def _training(tensors: int) -> tuple[nn.ParameterList, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.ParameterList(nn.Parameter(torch.randn(NUMEL)) for _ in range(tensors))
    for param in model:
        param.grad = torch.randn_like(param)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)


def cost(tensors: int, rounds: int) -> tuple[float, float, float]:
    """Median seconds of a plain step, and what clip and guard add to it."""
    (plain_model, plain), (clip_model, clip), (guard_model, guarded) = (_training(tensors) for _ in range(3))
    del plain_model
    seconds: dict[str, list[float]] = {"plain": [], "clip": [], "guard": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        sg.guard(guard_model, guarded, run=Path(folder) / "run.steady"),
    ):
        for _ in range(rounds):
            for name, optimizer in (("plain", plain), ("clip", clip), ("guard", guarded)):
                began = time.perf_counter()
                if name == "clip":
                    torch.nn.utils.clip_grad_norm_(clip_model.parameters(), 1e9)
                optimizer.step()
                seconds[name].append(time.perf_counter() - began)
    arrays = {name: np.array(values[5:]) for name, values in seconds.items()}
    base = arrays["plain"]
    return (
        float(np.median(base)),
        float(np.median(arrays["clip"] - base)),
        float(np.median(arrays["guard"] - base)),
    )


def held_bytes(tensors: int, steps: tuple[int, int] = (200, 2_000)) -> int:
    """Growth of the process's peak memory between two numbers of guarded, recorded steps."""
    model, optimizer = _training(tensors)
    peaks = []
    with tempfile.TemporaryDirectory() as folder, sg.guard(model, optimizer, run=Path(folder) / "run.steady"):
        done = 0
        for target in steps:
            for _ in range(target - done):
                optimizer.step()
            done = target
            gc.collect()
            peaks.append(_peak_bytes())
    return int(peaks[1] - peaks[0])


def large(tensors: int, numel: int, rounds: int = 25) -> str:
    """One row of the table of large models: SGD, one set of weights and gradients for all variants."""
    model = nn.ParameterList(nn.Parameter(torch.zeros(numel)) for _ in range(tensors))
    for param in model:
        param.grad = torch.full_like(param, 1e-3)
    before = _peak_bytes()
    plain = torch.optim.SGD(model.parameters(), lr=1e-9, fused=True)
    guarded = torch.optim.SGD(model.parameters(), lr=1e-9, fused=True)
    seconds: dict[str, list[float]] = {"plain": [], "clip": [], "guard": []}
    with tempfile.TemporaryDirectory() as folder, sg.guard(model, guarded, run=Path(folder) / "run.steady"):
        for _ in range(rounds):
            for name, elapsed in seconds.items():
                began = time.perf_counter()
                if name == "clip":
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
                (guarded if name == "guard" else plain).step()
                elapsed.append(time.perf_counter() - began)
        held = (_peak_bytes() - before) / 2**20
    base, clip, guard = (np.array(seconds[name][5:]) for name in ("plain", "clip", "guard"))
    clip_adds, guard_adds = float(np.median(clip - base)), float(np.median(guard - base))
    return (
        f"| {tensors:,} | {tensors * numel:.0e} | {np.median(base) * 1e3:,.0f} | {clip_adds * 1e3:+,.0f} | "
        f"{guard_adds * 1e3:+,.0f} | {guard_adds / clip_adds:.2f} | {held:,.0f} |"
    )


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _large_table() -> list[str]:
    lines = [
        "| tensors | parameters | plain step, ms | clip_grad_norm_ adds, ms | guard adds, ms | guard / clip | memory, MB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for tensors, numel in LARGE:
        # A process of its own each: the peak of memory never falls, and freed memory comes back warm.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            lines.append(pool.submit(large, tensors, numel).result())
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Measure and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    parser.add_argument("--large", action="store_true", help="up to 10^9 parameters instead: 9 GB of memory")
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.large:
        text = "\n".join(_large_table())
        if not options.dry:
            write_section("large", f"{machine(2)}\n\n{text}")
        return
    lines = [
        "| tensors | plain step, ms | clip_grad_norm_ adds, ms | guard adds, ms | guard / clip | guard adds, us a tensor | memory held, MB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for tensors in SIZES:
        plain, clip, guard = cost(tensors, 300 if tensors < 5_000 else 60)
        steps = (200, 2_000) if tensors < 5_000 else (100, 600)
        held = held_bytes(tensors, steps) / 2**20
        lines.append(
            f"| {tensors:,} | {plain * 1e3:.2f} | {clip * 1e3:+.2f} | {guard * 1e3:+.2f} | {guard / clip:.2f} "
            f"| {guard / tensors * 1e6:.2f} | {held:.1f} |"
        )
        print(lines[-1], flush=True)
    if not options.dry:
        write_section("growth", f"{machine(2)}\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
