"""What a guard costs on several ranks: beside torch's own clip on FSDP2, and beside one process and one collective.

    python -m benchmarks.sharded
    python -m benchmarks.sharded --ranks 2 --rounds 60 --dry

All ranks train the transformer of the overhead benchmark (76 tensors, 2.8 M parameters) with fused AdamW on gloo.
The variants take turns at every step. Timed is what comes after the backward pass, from a barrier on, on the slowest
rank; shown are medians of the differences to the plain step of the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.queues import SimpleQueue

import numpy as np
import torch
import torch.distributed as dist
from torch import multiprocessing as mp
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import steadygrad as sg
from benchmarks.results import machine, write_section
from benchmarks.workloads import VOCABULARY, Transformer
from steadygrad.notices import quiet
from steadygrad.ranks.letter import Letter

WARM_UP = 6
BATCH, LENGTH = 4, 64
KINDS = ("one process", "DDP", "FSDP2")
ACTS = ("plain", "clip_grad_norm_", "sg.guard")


class Training:
    """One model, spread over the ranks in one way, and what is done to its gradients."""

    def __init__(self, kind: str, act: str) -> None:
        torch.manual_seed(0)
        model: nn.Module = Transformer()
        if kind == "DDP":
            model = DistributedDataParallel(model)
        if kind == "FSDP2":
            for layer in model.layers.layers:  # type: ignore[union-attr]
                fully_shard(layer)
            fully_shard(model)
        self.model, self.act = model, act
        self.optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
        self.guard = sg.guard(model, self.optimizer, recover=False) if act == "sg.guard" else None

    def step(self, tokens: torch.Tensor) -> float:
        """Seconds from the end of the backward pass to the end of the step."""
        self.optimizer.zero_grad()
        logits = self.model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        dist.barrier()
        began = time.perf_counter()
        if self.act == "clip_grad_norm_":
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1e9)
        self.optimizer.step()
        return time.perf_counter() - began


def _measure(rank: int, ranks: int, port: int, rounds: int, answer: SimpleQueue[object]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks,
        timeout=timedelta(seconds=300),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        trainings = {(kind, act): Training(kind, act) for kind in KINDS for act in ACTS}
        tensors = len(list(Transformer().parameters()))
        word = torch.zeros(tensors + len(Letter(rank, ranks).on_host()), dtype=torch.float64)
        steps: dict[tuple[str, str], Callable[[torch.Tensor], float]] = {
            key: training.step for key, training in trainings.items()
        }
        steps["one all_reduce", "alone"] = lambda _: _all_reduce(word)
        seconds = _in_turn(steps, rounds, torch.Generator().manual_seed(rank))
        for training in trainings.values():
            if training.guard is not None:
                training.guard.close()
    if rank == 0:
        answer.put((seconds, word.numel() * 8 / tensors))
    dist.destroy_process_group()


def _all_reduce(word: torch.Tensor) -> float:
    dist.barrier()
    began = time.perf_counter()
    dist.all_reduce(word)
    return time.perf_counter() - began


def _in_turn(
    steps: dict[tuple[str, str], Callable[[torch.Tensor], float]], rounds: int, generator: torch.Generator
) -> dict[tuple[str, str], list[float]]:
    """Seconds of the slowest rank, by variant and round."""
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    # The same order on all ranks: they have to meet in each collective.
    order, keys = np.random.default_rng(0), list(steps)
    for round_ in range(rounds + WARM_UP):
        tokens = torch.randint(VOCABULARY, (BATCH, LENGTH + 1), generator=generator)
        for place in order.permutation(len(keys)):
            slowest = torch.tensor(steps[keys[place]](tokens), dtype=torch.float64)
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
            if round_ >= WARM_UP:
                seconds[keys[place]].append(slowest.item())
    return seconds


def table(seconds: dict[tuple[str, str], list[float]], payload: float) -> str:
    """The result as Markdown."""
    lines = [
        "| spread | clip_grad_norm_ adds, us | guard adds, us | guard / clip |",
        "| --- | ---: | ---: | ---: |",
    ]
    added: dict[tuple[str, str], float] = {}
    for kind in KINDS:
        plain = np.array(seconds[kind, "plain"])
        for act in ACTS[1:]:
            added[kind, act] = float(np.median(np.array(seconds[kind, act]) - plain)) * 1e6
        clip, guard = added[kind, "clip_grad_norm_"], added[kind, "sg.guard"]
        lines.append(f"| {kind} | {clip:+,.0f} | {guard:+,.0f} | {guard / clip:.2f} |")
    collective = float(np.median(seconds["one all_reduce", "alone"])) * 1e6
    sum_ = added["one process", "sg.guard"] + collective
    told = f"One all_reduce of {payload:.1f} bytes a tensor, alone: {collective:,.0f} us; with the guard of one process {sum_:,.0f} us."
    return "\n".join([*lines, "", told])


def main() -> None:
    """Measure and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--dry", action="store_true", help="print only, leave RESULTS.md alone")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answer = mp.get_context("spawn").SimpleQueue()
    mp.spawn(_measure, (asked.ranks, port, asked.rounds, answer), nprocs=asked.ranks)
    seconds, payload = answer.get()
    text = f"{machine(1)}\n\n{asked.ranks} ranks, {asked.rounds} rounds.\n\n{table(seconds, payload)}"
    print(text)
    if not asked.dry:
        write_section("sharded", text)


if __name__ == "__main__":
    main()
