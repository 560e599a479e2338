"""Checkpoints of weights in parts: whole or not at all, whatever happens to one of two ranks."""

from __future__ import annotations

import io
import math
import os
import signal

import pytest
import torch
import torch.distributed as dist
from tests.ranks.recoveries import optimizer_of, state, strike
from tests.ranks.test_two_ranks import RANKS, fsdp, tensor_parallel
from tests.ranks.worlds import batches, exit_codes, own_rows, run_world, train_step
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import FSDPModule

import steadygrad as sg
from steadygrad.errors import CheckpointFailed, RankLost
from steadygrad.recover import joint_checkpoints

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def trained(make, rank, steps=3, optimizer_of=optimizer_of):
    model = make()
    optimizer = optimizer_of(model)
    guard = sg.guard(model, optimizer)
    train(model, optimizer, guard, rank, steps)
    return model, optimizer, guard


def train(model, optimizer, guard, rank, steps=1):
    for batch in batches(steps):
        rows = own_rows(batch, rank, RANKS) if isinstance(model, FSDPModule) else batch
        train_step(model, optimizer, rows, guard)


def loaded(path, make, optimizer_of=optimizer_of):
    """As the documentation says; what the guard is told to go on from comes last."""
    model = make()
    optimizer = optimizer_of(model)
    weights, moments = get_state_dict(model, optimizer)
    found = {"model": weights, "optimizers": moments, "guard": b""}
    dcp.load(found, checkpoint_id=path)
    set_state_dict(model, optimizer, model_state_dict=found["model"], optim_state_dict=found["optimizers"])
    guard = sg.guard(model, optimizer)
    guard.load_state_dict(torch.load(io.BytesIO(found["guard"]), weights_only=True))
    return model, optimizer, guard


def check_round_trip(rank, folder, make, optimizer_of=optimizer_of):
    path = folder / f"{make.__name__}-{optimizer_of.__name__}"
    model, optimizer, guard = trained(make, rank, optimizer_of=optimizer_of)
    for _ in range(3):
        train(model, optimizer, guard, rank)
        assert guard.healthy
        assert guard.save(path)
        assert len(list(folder.glob(f"*{path.name}*"))) == 2  # the link, and what it leads to
    again, its_optimizer, its_guard = loaded(path, make, optimizer_of)
    for a, b in zip(state(model, optimizer), state(again, its_optimizer), strict=True):
        assert torch.equal(a, b)
    assert its_guard.state_dict() == guard.state_dict()
    guard.close()
    its_guard.close()


def plain_sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)


def check_refusal(rank, folder):
    """Rank 1 alone has a NaN: no rank saves, both say whose it is, and what was there before is whole."""
    path = folder / "refused"
    model, optimizer, guard = trained(fsdp, rank)
    assert guard.save(path)
    kept = state(model, optimizer)
    if rank == 1:
        strike(model, math.nan)
    assert not guard.healthy
    assert not guard.save(path)
    with guard.protect(path) as draft:
        dcp.save({"model": model.state_dict()}, checkpoint_id=draft)
    assert not draft.exists()
    again, its_optimizer, its_guard = loaded(path, fsdp)
    assert all(map(torch.equal, kept, state(again, its_optimizer)))
    guard.close()
    its_guard.close()


def fails_on_one(guard, path, rank):
    with guard.protect(path):
        if rank == 1:
            raise ValueError("disk")


def check_protect(rank, folder):
    path = folder / "own"
    model, _, guard = trained(fsdp, rank)
    with guard.protect(path) as draft:
        dcp.save({"model": model.state_dict()}, checkpoint_id=draft)
    with pytest.raises(
        ValueError if rank else CheckpointFailed, match="disk" if rank else "rank 1: ValueError: disk"
    ):
        fails_on_one(guard, path, rank)
    with pytest.raises(CheckpointFailed, match="nothing was written to the path"), guard.protect(path):
        pass
    found = {"model": {name: torch.zeros_like(one) for name, one in model.state_dict().items()}}
    dcp.load(found, checkpoint_id=path)
    for name, one in model.state_dict().items():
        assert torch.equal(found["model"][name].to_local(), one.to_local())
    (folder / "theirs").mkdir(exist_ok=True)
    (folder / "theirs" / "file").touch()
    dist.barrier()
    with pytest.raises(CheckpointFailed, match="this is a folder of another kind"):
        guard.save(folder / "theirs")
    guard.close()


def check_only_one_calls(rank, folder, monkeypatch):
    monkeypatch.setattr(joint_checkpoints, "PATIENCE_S", 1.0)
    _, _, guard = trained(fsdp, rank)
    if rank == 0:
        with pytest.raises(RankLost, match=r"rank 1 of 2 .* since each holds a part of the weights"):
            guard.save(folder / "alone")
    dist.barrier()
    guard.close()


class Check:
    """A check that knows the folder."""

    def __init__(self, check, folder):
        self.check, self.folder = check, folder

    def __call__(self, rank):
        self.check(rank, self.folder)


def every_check(rank, folder):
    check_round_trip(rank, folder, fsdp)
    check_round_trip(rank, folder, tensor_parallel)
    check_round_trip(rank, folder, fsdp, plain_sgd)
    check_refusal(rank, folder)
    check_protect(rank, folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        check_only_one_calls(rank, folder, monkeypatch)


def test_all_parts_or_none(tmp_path):
    run_world(Check(every_check, tmp_path), RANKS)


def killed_while_saving(rank, folder):
    """Rank 1 is killed when it is about to write its part of the second checkpoint."""
    model, optimizer, guard = trained(fsdp, rank)
    assert guard.save(folder / "last")
    torch.save(state(model, optimizer), folder / f"kept{rank}.pt")
    train(model, optimizer, guard, rank)
    if rank == 1:
        dcp.FileSystemWriter.write_data = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(RankLost, match="rank 1 of 2 has died or doesn't answer; this is rank 0"):
        guard.save(folder / "last")
    os._exit(0)  # without the dead there is nothing that could be ended in order


def whole_again(rank, folder):
    """Another process, another number of ranks: one."""
    model, optimizer, guard = loaded(folder / "last", fsdp)
    kept = torch.load(folder / "kept0.pt")
    assert all(map(torch.equal, kept, state(model, optimizer)))
    assert guard.save(folder / "last")
    guard.close()


def test_a_rank_that_is_killed_while_saving_leaves_the_checkpoint_before(tmp_path):
    assert exit_codes(Check(killed_while_saving, tmp_path), RANKS) == [0, -signal.SIGKILL]
    run_world(Check(whole_again, tmp_path), 1)
