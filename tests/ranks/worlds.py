"""Real worlds of gloo processes on the CPU, and small trainings in them."""

from __future__ import annotations

import os
import socket
import traceback
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing as mp
from torch import nn

PATIENCE = timedelta(seconds=30)
_DONE = "done"
STEPS = 6


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_world(check, ranks, patience=PATIENCE):
    """Run ``check(rank)`` in every process of a world; fail with what they said."""
    context = mp.get_context("spawn")
    failures = context.SimpleQueue()
    try:
        mp.spawn(_one_rank, (ranks, free_port(), check, failures, patience), nprocs=ranks)
    except (mp.ProcessRaisedException, mp.ProcessExitedException):
        told = []
        while not failures.empty():
            told.append(failures.get())
        # Once in some thousands of worlds the process with the store aborts inside torch while it ends.
        if told.count(_DONE) < ranks:
            words = [word for word in told if word != _DONE]
            pytest.fail("\n".join(words) or "a rank ended without a word")


def exit_codes(check, ranks, patience_s=120.0):
    """Run ``check(rank)`` in a world that may lose some of its processes; how each has ended."""
    failures = mp.get_context("spawn").SimpleQueue()
    world = mp.spawn(_one_rank, (ranks, free_port(), check, failures, PATIENCE), nprocs=ranks, join=False)
    for process in world.processes:
        process.join(patience_s)
    codes = [process.exitcode for process in world.processes]
    for process in world.processes:
        process.kill()
    return codes


def assert_same_norms(ours, one, floor):
    """A Reading of ranks against that of one process; norms below the floor are rounding."""
    assert ours.total_norm == pytest.approx(one.total_norm, rel=1e-5)
    assert ours.norms.tolist() == pytest.approx(one.norms.tolist(), rel=1e-5, abs=floor)
    assert ours.clip_coef == pytest.approx(one.clip_coef, rel=1e-5)


def assert_same_weights(model, alone, *, rtol, atol):
    """A model on ranks against that of one process."""
    for theirs, own in zip(alone.parameters(), model.parameters(), strict=True):
        whole = own.full_tensor() if hasattr(own, "full_tensor") else own
        torch.testing.assert_close(whole, theirs, rtol=rtol, atol=atol)


def _one_rank(rank, ranks, port, check, failures, patience):
    url = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=url, rank=rank, world_size=ranks, timeout=patience)
    torch.set_num_threads(1)
    os.environ["STEADYGRAD_QUIET"] = "1"
    try:
        check(rank)
        failures.put(_DONE)
    except Exception:
        failures.put(f"rank {rank}: {traceback.format_exc()}")
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Deep(Net):
    """68 tensors."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block() for _ in range(11)])


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.lstm(x.unsqueeze(1))[0][:, -1])


def seeded(make=Net):
    torch.manual_seed(0)
    return make()


def batches(steps=STEPS, rows=8):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(rows, 8, generator=generator), torch.randn(rows, 1, generator=generator))
        for _ in range(steps)
    ]


def own_rows(batch, index, of):
    """This data-parallel index's rows of a batch."""
    return tuple(part.chunk(of)[index] for part in batch)


def train_step(model, optimizer, batch, monitor=None):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(batch[0]), batch[1])
    loss.backward()
    if monitor is not None:
        monitor.log(loss=loss.item())
    optimizer.step()


def everywhere(value):
    """What every rank holds, in the order of the ranks."""
    held = [None] * dist.get_world_size()
    dist.all_gather_object(held, value)
    return held
