"""Faults on one rank of several, seeded: do all ranks agree, and does the finding name the right one?

    python benchmarks/ranks.py --trials 200 --ranks 2

Each trial is a short DDP training in one world of gloo processes. In it one rank, drawn from the seed, gets a NaN
batch, an Inf in its gradient before reduction, or is slow; or nothing happens. Counted are trials in which the ranks
differ in a norm, a factor or a skip (to the last bit), in which other steps were skipped than the faulty one, and
in which the rank named isn't the faulty one.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import steadygrad as sg

FAULTS = ("none", "nan batch", "inf gradient", "slow rank")
STEPS = 8


def _trial(seed: int, rank: int, ranks: int) -> tuple[str, dict[str, bool]]:
    draw = random.Random(seed)
    fault, faulty, at = draw.choice(FAULTS), draw.randrange(ranks), draw.randrange(1, STEPS)
    torch.manual_seed(seed)
    model = DistributedDataParallel(
        nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 1))
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    guard = sg.guard(model, optimizer, policy=draw.choice([sg.policies.auto(), sg.policies.clip_norm(0.5)]))
    generator = torch.Generator().manual_seed(seed * ranks + rank)
    for step in range(STEPS):
        x = torch.randn(8, 8, generator=generator)
        hit = rank == faulty and step == at
        if hit and fault == "nan batch":
            x[draw.randrange(8)] = float("nan")
        if hit and fault == "slow rank":
            time.sleep(0.2)
        optimizer.zero_grad()
        out = model(x)
        if hit and fault == "inf gradient":
            out.register_hook(lambda grad: grad * float("inf"))
        out.square().mean().backward()
        optimizer.step()
    told = [(one.norms.tolist(), one.total_norm, one.clip_coef, one.skipped) for one in guard.recent]
    everywhere: list[Any] = [None] * ranks
    dist.all_gather_object(everywhere, repr(told))
    poisoned = fault in {"nan batch", "inf gradient"}
    named = [one.evidence.get("guilty_rank") for one in guard.findings if one.kind.startswith("nonfinite")]
    outcome = {
        "ranks differ": len(set(everywhere)) > 1,
        "wrong steps skipped": [one.step for one in guard.recent if one.skipped] != [at] * poisoned,
        "wrong or no rank named": poisoned and float(faulty) not in named,
        "not seen to the end": len(told) != STEPS,
    }
    guard.close()
    return fault, outcome


def _rank(rank: int, ranks: int, port: int, trials: int) -> None:
    os.environ["STEADYGRAD_QUIET"] = "1"
    torch.set_num_threads(1)
    url = f"tcp://127.0.0.1:{port}"
    dist.init_process_group(
        "gloo", init_method=url, rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
    )
    began = time.perf_counter()
    faults: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for seed in range(trials):
        fault, outcome = _trial(seed, rank, ranks)
        faults[fault] += 1
        bad.update(name for name, is_bad in outcome.items() if is_bad)
    if rank == 0:
        print(f"{trials} trials on {ranks} ranks, {time.perf_counter() - began:.0f} s: {dict(faults)}")
        for name in outcome:
            print(f"  {name:24s} {bad[name]}")
    dist.destroy_process_group()


def main() -> None:
    """Run the trials and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=2)
    asked = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_rank, (asked.ranks, port, asked.trials), nprocs=asked.ranks)


if __name__ == "__main__":
    main()
