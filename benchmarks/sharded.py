"""What a guard costs on several ranks: beside torch's own clip on FSDP2, and beside one process and one collective.

    python -m benchmarks.sharded
    python -m benchmarks.sharded --ranks 2 --rounds 60 --dry

All ranks train the transformer of the overhead benchmark (76 tensors, 2.8 M parameters) with fused AdamW on gloo.
The variants take turns at every step. Timed is, on the slowest rank: what comes after the backward pass, from a barrier on;
in steps of their own, with no barrier inside, two whole steps from the forward pass on, in which ranks that wait for each other
here needn't do so in the next backward pass; and of these the CPU time of the thread that trains. Shown are medians of the
differences to the plain step of the same round.

"one process's + all_reduce" under DDP is what the guard of several ranks is to be no dearer than: on each rank a guard that knows
of no others (it is given the module inside of DDP), and after it one `all_reduce` as long as the guard's.
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
IDEAL = "one process's + all_reduce"
BESIDE = "Under DDP the guard, beside that of one process and one all_reduce in the same place"
WHOLE = 2
Times = tuple[float, ...]


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
        alone = act == IDEAL
        guarded = act == "sg.guard" or alone
        inner: nn.Module = model.module if alone else model  # type: ignore[assignment]
        self.guard = sg.guard(inner, self.optimizer, recover=False) if guarded else None
        if alone:
            word = word_of_all()
            self.optimizer.register_step_pre_hook(lambda *_: dist.all_reduce(word) and None)

    def step(self, tokens: torch.Tensor) -> Times:
        """Seconds from the end of the backward pass to the end of the step; then of whole steps, and their CPU time."""
        self._backward(tokens)
        dist.barrier()
        began = time.perf_counter()
        self._step()
        after = time.perf_counter() - began
        dist.barrier()
        began, busy = time.perf_counter(), time.thread_time()
        for _ in range(WHOLE):
            self._backward(tokens)
            self._step()
        return after, (time.perf_counter() - began) / WHOLE, (time.thread_time() - busy) / WHOLE

    def _backward(self, tokens: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        logits = self.model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]

    def _step(self) -> None:
        if self.act == "clip_grad_norm_":
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1e9)
        self.optimizer.step()


def word_of_all() -> torch.Tensor:
    """As much as the guard sends at a plain step."""
    words = Letter(dist.get_rank(), dist.get_world_size()).on_host()
    return torch.zeros(len(list(Transformer().parameters())) + len(words), dtype=torch.float64)


def _measure(rank: int, ranks: int, port: int, rounds: int, answer: SimpleQueue[object]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks,
        timeout=timedelta(seconds=300),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        trainings = {(kind, act): Training(kind, act) for kind in KINDS for act in ACTS}
        trainings["DDP", IDEAL] = Training("DDP", IDEAL)
        tensors = len(list(Transformer().parameters()))
        word = word_of_all()
        steps: dict[tuple[str, str], Callable[[torch.Tensor], Times]] = {
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


def _all_reduce(word: torch.Tensor) -> Times:
    dist.barrier()
    began, busy = time.perf_counter(), time.thread_time()
    dist.all_reduce(word)
    took = time.perf_counter() - began
    return took, took, time.thread_time() - busy


def _in_turn(
    steps: dict[tuple[str, str], Callable[[torch.Tensor], Times]], rounds: int, generator: torch.Generator
) -> dict[tuple[str, str], list[list[float]]]:
    """Seconds of the slowest rank, by variant and round."""
    seconds: dict[tuple[str, str], list[list[float]]] = {key: [] for key in steps}
    # The same order on all ranks: they have to meet in each collective.
    order, keys = np.random.default_rng(0), list(steps)
    for round_ in range(rounds + WARM_UP):
        tokens = torch.randint(VOCABULARY, (BATCH, LENGTH + 1), generator=generator)
        for place in order.permutation(len(keys)):
            slowest = torch.tensor(steps[keys[place]](tokens), dtype=torch.float64)
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
            if round_ >= WARM_UP:
                seconds[keys[place]].append(slowest.tolist())
    return seconds


def table(seconds: dict[tuple[str, str], list[list[float]]], payload: float) -> str:
    """The result as Markdown."""
    lines = [
        "| spread | adds | after the backward pass, us | beside clip | to a whole step, us | CPU of the thread, us | beside clip |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    added = {
        key: 1e6 * np.median(np.array(taken) - np.array(seconds[key[0], "plain"]), axis=0)
        for key, taken in seconds.items()
        if key[0] in KINDS and key[1] != "plain"
    }
    for (kind, act), (after, whole, busy) in sorted(added.items(), key=lambda item: KINDS.index(item[0][0])):
        clip = added[kind, "clip_grad_norm_"]
        cells = (
            f"{after:+,.0f}",
            f"{after / clip[0]:.2f}",
            f"{whole:+,.0f}",
            f"{busy:+,.0f}",
            f"{busy / clip[2]:.2f}",
        )
        lines.append(f"| {kind} | {act} | {' | '.join(cells)} |")
    ours, ideal = (np.array(seconds["DDP", act]) for act in ("sg.guard", IDEAL))
    more = 1e6 * np.median(ours - ideal, axis=0)
    collective = 1e6 * np.median(np.array(seconds["one all_reduce", "alone"]), axis=0)
    return "\n".join(
        [
            *lines,
            "",
            f"One all_reduce of {payload:.1f} bytes a tensor, alone: {collective[0]:,.0f} us, of them {collective[2]:,.0f} CPU.",
            f"{BESIDE}: {more[0]:+,.0f} us after the backward pass, {more[1]:+,.0f} to a whole step, {more[2]:+,.0f} of CPU.",
        ]
    )


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
