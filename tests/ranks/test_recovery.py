"""Two ranks go back together, to the same copy and at the same step, or not at all."""

from __future__ import annotations

import math

import pytest
import torch
from tests.ranks.recoveries import EVERY, alike, check_goes_back, optimizer_of, state, strike
from tests.ranks.test_two_ranks import RANKS, ddp, fsdp, tensor_parallel
from tests.ranks.worlds import batches, everywhere, own_rows, run_world, train_step
from torch import nn

import steadygrad as sg
from steadygrad.errors import UsageError
from steadygrad.monitor import Monitor
from steadygrad.policies import auto, clip_norm
from steadygrad.recover.state import TrainingState

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def late_guard(model, optimizer, recover):
    """As on an accelerator: every number is known one step later."""
    return Monitor(
        "guard", model, [optimizer], auto(), run=None, max_skips=10, overhead=0.02, late=True, recover=recover
    )


def train(model, optimizer, guard, rank, steps):
    for batch in batches(steps):
        train_step(model, optimizer, own_rows(batch, rank, RANKS), guard)


def check_a_copy_that_fails_on_one(rank, monkeypatch):
    """The copy of step 8 fails on rank 1: it counts on neither, and the next one does."""
    model = fsdp()
    optimizer = optimizer_of(model)
    guard = sg.guard(model, optimizer, recover=sg.recover.rollback(every=EVERY))
    copy, copied = TrainingState.copy, []

    def fails(self, live, old):
        copied.append(guard._tracks[0].lane.step)
        if copied[-1] == 8 and rank == 1:
            raise RuntimeError("can't allocate memory")
        return copy(self, live, old)

    monkeypatch.setattr(TrainingState, "copy", fails)
    train(model, optimizer, guard, rank, 4)  # a copy at step 4 would be in its way
    guard._rescue._keeper._drop_pending()
    train(model, optimizer, guard, rank, 5)
    assert everywhere(guard._rescue._keeper.good.step) == [0, 0]
    train(model, optimizer, guard, rank, 20)
    assert copied == [0, 4, 8, 12, 24]
    assert everywhere(guard._rescue._keeper.good.step) == [12, 12]
    assert "switched off" not in guard.summary()
    guard.close()


def check_memory(rank, monkeypatch):
    """One rank has too little memory for two copies: no rank recovers, and all say whose it is."""
    said = []
    monkeypatch.setattr("steadygrad.logbook.Logbook.say", lambda self, key, text: said.append(text))
    monkeypatch.setattr("steadygrad.recover.rescue.free_bytes", lambda: 1e9 if rank == 0 else 1e3)
    model = ddp()
    optimizer = optimizer_of(model)
    guard = sg.guard(model, optimizer)
    assert guard._rescue._allowed_bytes() == pytest.approx(0.25 * (1e9 if rank == 0 else 1e3) / RANKS)
    train(model, optimizer, guard, rank, 3)
    assert guard._rescue._off
    told = [text for text in said if "no recovery" in text]
    assert len(told) == 1
    assert "no recovery on any rank: rank 1: two copies of the training's state take 0.00 GB" in told[0]
    guard.close()


def check_a_fault_of_ours_on_one(rank, monkeypatch):
    model = ddp()
    optimizer = optimizer_of(model)
    guard = sg.guard(model, optimizer)
    train(model, optimizer, guard, rank, 2)
    if rank == 1:
        guard._rescue._look = None
    monkeypatch.setattr("steadygrad.ranks.word.PATIENCE_S", 1.0)
    train(model, optimizer, guard, rank, 3)
    assert rank == 1 or guard._rescue._off
    strike(model, math.nan)
    train(model, optimizer, guard, rank, 3)
    assert guard.counts.steps == 8
    assert guard.counts.rollbacks == 0
    guard.close()


def normalised():
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))


def check_statistics(rank):
    """The ruined weights ruin running statistics too: the rollback puts them back, and nothing else has to."""
    model = ddp(normalised)
    optimizer = optimizer_of(model)
    guard = sg.guard(model, optimizer, recover=sg.recover.rollback(every=EVERY))
    train(model, optimizer, guard, rank, 20)
    if rank == 1:
        strike(model, math.nan)
    train(model, optimizer, guard, rank, 8)
    assert (guard._rescue.rollbacks, guard._rescue.repairs) == (1, 0)
    assert all(bool(torch.isfinite(one).all()) for one in model.state_dict().values())
    guard.close()


def check_conflict(rank):
    """Asked for different things, every rank says so at once, and leaves no hook behind."""
    for asked in ([None, False], [True, False], [sg.recover.rollback(every=5), sg.recover.rollback(every=6)]):
        model = ddp()
        optimizer = optimizer_of(model)
        with pytest.raises(
            UsageError, match=r"expected the same on every rank, got .* on rank 0; .* on rank 1"
        ):
            sg.guard(model, optimizer, recover=asked[rank])
        assert not optimizer._optimizer_step_pre_hooks


def check_the_mean_loss_counts(rank, monkeypatch, *, after, all_log=True):
    """Only one rank's loss leaves its course, for good: both go back twice, then both accept it and undo that."""
    done = []
    monkeypatch.setattr(
        "steadygrad.logbook.Logbook.incident",
        lambda self, one: done.append((one.step, one.action, one.reason)),
    )
    model = ddp()
    optimizer = optimizer_of(model)
    guard = sg.guard(model, optimizer, policy=clip_norm(1.0), recover=sg.recover.rollback(every=EVERY))
    generator = torch.Generator().manual_seed(rank)
    stream = batches(2)
    for step in range(160):
        loss = 1.0 + 0.1 * torch.rand((), generator=generator).item()
        loss += 100.0 if rank == 1 and step >= 60 else 0.0
        logs = all_log or rank == 1
        if logs and not after:
            guard.log(loss=loss)
        train_step(model, optimizer, own_rows(stream[step % 2], rank, RANKS))
        if logs and after:
            guard.log(loss=loss)
    assert [action for _, action, _ in done] == ["rollback", "rollback", "release"]
    assert "the weights from before the rollback are back" in done[-1][2]
    assert alike((done, [one.tolist() for one in state(model, optimizer)]))
    guard.close()


def check_bad_data_is_no_reason(rank):
    """Seven batches in a row with a NaN on rank 1: it knows that it is its input, and so nobody goes back."""
    model = ddp()
    optimizer = optimizer_of(model)
    guard = sg.guard(model, optimizer, recover=sg.recover.rollback(every=EVERY))
    for step, batch in enumerate(batches(20)):
        x, y = own_rows(batch, rank, RANKS)
        train_step(model, optimizer, (x * math.nan if rank == 1 and 10 <= step < 17 else x, y), guard)
    assert (guard.counts.skipped, guard._rescue.rollbacks) == (7, 0)
    assert guard._rescue._votes == 1
    guard.close()


class Lookup(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows, self.head = nn.Embedding(10, 8), nn.Linear(8, 1)
        self.rows.weight.data[9] = math.nan

    def forward(self, index):
        return self.head(self.rows(index))


def check_what_steps_do_without_is_no_cause(rank):
    """A row that is NaN from the start and never looked up: a streak of bad losses is gone back from, on both."""
    model = ddp(Lookup)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    guard = sg.guard(model, optimizer, recover=sg.recover.rollback(every=EVERY))
    for step in range(20):
        optimizer.zero_grad()
        loss = model(torch.arange(4) + rank).square().mean()
        (loss * math.nan if 3 <= step < 10 else loss).backward()
        optimizer.step()
    assert guard._rescue.rollbacks == 1
    assert alike([one.tolist() for one in model.parameters()])
    guard.close()


def check_a_checkpoint_is_loaded(rank):
    """Copies of what was there before are void, on every rank."""
    model = fsdp()
    optimizer = optimizer_of(model)
    guard = sg.guard(model, optimizer, recover=sg.recover.rollback(every=100))
    train(model, optimizer, guard, rank, 3)
    model.load_state_dict(model.state_dict())
    train(model, optimizer, guard, rank, 3)
    assert everywhere(guard._rescue._keeper.good.step) == [4, 4]
    guard.close()


def every_check(rank):
    struck = rank == 1
    check_goes_back(ddp(), rank, RANKS, struck=struck)
    check_goes_back(fsdp(), rank, RANKS, struck=struck)
    check_goes_back(fsdp(), rank, RANKS, struck=struck, value=1e30)
    check_goes_back(fsdp(), rank, RANKS, struck=struck, peeks=rank == 0, monitored=late_guard)
    check_goes_back(tensor_parallel(), 0, 1, struck=struck)
    for check in (check_a_copy_that_fails_on_one, check_memory, check_a_fault_of_ours_on_one):
        with pytest.MonkeyPatch.context() as monkeypatch:
            check(rank, monkeypatch)
    for after, all_log in ((False, True), (True, False)):
        with pytest.MonkeyPatch.context() as monkeypatch:
            check_the_mean_loss_counts(rank, monkeypatch, after=after, all_log=all_log)
    check_statistics(rank)
    check_conflict(rank)
    check_bad_data_is_no_reason(rank)
    check_a_checkpoint_is_loaded(rank)
    check_what_steps_do_without_is_no_cause(rank)


def test_two_ranks_go_back_together():
    run_world(every_check, RANKS)
