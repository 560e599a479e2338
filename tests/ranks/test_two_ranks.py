"""Two ranks: the norms and verdicts of one process, by one collective a step, and the rank that brought it."""

from __future__ import annotations

import math
import os

import pytest
import torch
import torch.distributed as dist
from tests.ranks.worlds import (
    Deep,
    Net,
    Tagger,
    assert_same_norms,
    assert_same_weights,
    batches,
    everywhere,
    own_rows,
    run_world,
    seeded,
    train_step,
)
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import steadygrad as sg
from steadygrad.errors import RankLost, UsageError
from steadygrad.monitor import Monitor
from steadygrad.policies import auto, clip_norm
from steadygrad.ranks import Peers, Ranks
from steadygrad.ranks.farewell import farewell

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
RANKS = 2
TP_PLAN = {"up": ColwiseParallel(), "down": RowwiseParallel()}


def ddp(make=Net):
    return DistributedDataParallel(seeded(make))


def fsdp(make=Net):
    model = seeded(make)
    for one in getattr(model, "blocks", ()):
        fully_shard(one)
    fully_shard(model)
    return model


def tensor_parallel():
    """Linear layers over the mesh; layer norms and head are plain tensors that each rank holds whole."""
    model = seeded()
    mesh = init_device_mesh("cpu", (RANKS,))
    for block in model.blocks:
        parallelize_module(block, mesh, TP_PLAN)
    return model


def guarded(model, policy, *, late=None, lr=0.05):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    monitor = Monitor("guard", model, [optimizer], policy, run=None, max_skips=10, overhead=0.02, late=late)
    return optimizer, monitor


def check_like_one_process(rank, model, *, make=Net, split=True, late=None, policy=clip_norm):
    alone = seeded(make)
    policies = [policy(0.5) if policy is clip_norm else policy() for _ in range(2)]
    alone_optimizer, alone_guard = guarded(alone, policies[0])
    optimizer, guard = guarded(model, policies[1], late=late)
    ranks = guard._tracks[0].lane.ranks
    assert ranks is not None
    before = ranks.calls
    stream = batches()
    stream[3][0][-1] = math.nan  # the last row: with DDP and FSDP2 only the last rank has it
    for batch in stream:
        train_step(alone, alone_optimizer, batch, alone_guard)
        train_step(model, optimizer, own_rows(batch, rank, RANKS) if split else batch, guard)
        ours, one = guard.last, alone_guard.last
        assert ours.skipped is one.skipped
        if not one.skipped:
            assert_same_norms(ours, one, 1e-7)
    assert guard.counts.skipped == alone_guard.counts.skipped == 1
    assert ranks.calls - before == len(stream)
    told = [(one.norms.tolist(), one.clip_coef, one.skipped) for one in guard.recent]
    assert len({repr(one) for one in everywhere(told)}) == 1
    assert_same_weights(model, alone, rtol=1e-4, atol=1e-6)
    assert "switched off" not in guard.summary()
    guard.close()


def check_payload(rank):
    """At most 16 bytes a tensor at every kind of step, and one collective."""
    model = ddp(Deep)
    optimizer, guard = guarded(model, auto())
    ranks = guard._tracks[0].lane.ranks
    sent = [sent_by(ranks, train_step, model, optimizer, batches()[rank], guard) for _ in range(12)]
    count = len(guard.last.norms)
    assert set(sent) == {plain_bytes(count)}
    assert max(sent) <= 16 * count
    guard.close()


def check_payload_with_weights(rank):
    """Sharded weights are measured by all ranks together: at the first step, then one in ten, and after a rollback."""
    model = fsdp(Deep)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    guard = Monitor(
        "guard", model, [optimizer], auto(), run=None, max_skips=10, overhead=0.02,
        recover=sg.recover.rollback(every=5),
    )  # fmt: skip
    ranks = guard._tracks[0].lane.ranks
    sent = []
    for step in range(30):
        if step == 23 and rank == 1:
            next(model.parameters()).to_local().data.fill_(math.nan)
        sent.append(sent_by(ranks, train_step, model, optimizer, own_rows(batches()[0], rank, RANKS), guard))
    count = len(guard.last.norms)
    weighed = [step for step, many in enumerate(sent) if many == weighed_bytes(count)]
    assert guard.counts.rollbacks == 1
    assert weighed[:4] == [0, 10, 20, 24]  # the step after the ruined one, when all go back
    assert {*sent} == {plain_bytes(count), weighed_bytes(count)}
    assert max(sent) <= 16 * count
    assert ranks.repeats == 0
    guard.close()


def plain_bytes(count):
    return 8 * count + 8 + 8 * math.ceil((12 + RANKS) / 3)


def weighed_bytes(count):
    return 12 * count + 56 + 4 * RANKS


def sent_by(ranks, call, *args):
    """Bytes this rank has put into the collectives of one call, of which there must be one."""
    calls, before = ranks.calls, ranks.bytes_sent
    call(*args)
    assert ranks.calls == calls + 1
    return ranks.bytes_sent - before


def check_guilty_nan(rank):
    model = ddp()
    optimizer, guard = guarded(model, auto())
    for step, batch in enumerate(batches()):
        mine = own_rows(batch, rank, RANKS)
        if step == 4 and rank == 1:
            mine[0][1] = math.inf
        train_step(model, optimizer, mine)  # no loss is logged: the gradients tell
    found = next(one for one in guard.findings if one.kind.startswith("nonfinite"))
    assert "Rank 1 alone of 2 brought it at step 4" in found.summary
    assert found.evidence["guilty_rank"] == 1.0
    guard.close()


def check_guilty_of_all(rank):
    model = ddp()
    optimizer, guard = guarded(model, auto())
    for batch in batches(2):
        train_step(model, optimizer, (batch[0] * math.nan, batch[1]), guard)
    assert any("All 2 ranks have it" in one.summary for one in guard.findings)
    assert all("guilty_rank" not in one.evidence for one in guard.findings)
    guard.close()


def check_local_norms(rank):
    model = ddp()
    optimizer, guard = guarded(model, None)
    for step, batch in enumerate(batches(3)):
        x, y = own_rows(batch, rank, RANKS)
        train_step(model, optimizer, (x, y + 1e4 if step == 2 and rank == 0 else y), guard)
    ranks = guard._tracks[0].lane.ranks
    seen = ranks.seen(2)
    assert seen.norms[0] > 100.0 * seen.norms[1] > 0.0
    assert not seen.bad_losses.any()
    assert seen.norm_of(rank) == seen.norms[rank]
    guard.close()


class Reducing(torch.optim.SGD):
    """A step of somebody's own, with a collective for each gradient."""

    @torch.no_grad()
    def step(self):
        for param in self.param_groups[0]["params"]:
            if param.grad is not None:
                mean = param.grad.clone()
                dist.all_reduce(mean)
                param.add_(mean, alpha=-0.01)


def check_own_step(rank, monkeypatch):
    """One rank alone has no room to undo a step: it is left out on both in the same way, and none waits for the other."""
    model = ddp()
    optimizer = Reducing(model.parameters(), lr=0.01)
    guard = sg.guard(model, optimizer, recover=False)
    with monkeypatch.context() as patch:
        if rank == 1:
            patch.setattr("steadygrad.stepping.remembered.free_bytes", lambda *_: 0.0)
        for step, batch in enumerate(batches()[:3]):
            train_step(model, optimizer, batch, guard)
            if step == 1:
                next(model.parameters()).grad.fill_(math.nan)
                optimizer.step()
    assert guard.counts.skipped == 1
    guard.close()


def check_a_fault_of_one(rank):
    """A rank whose measuring fails tells the others: nobody waits, everybody goes on without."""
    model = ddp()
    optimizer, guard = guarded(model, auto())
    train_step(model, optimizer, batches()[0], guard)
    if rank == 1:
        guard._tracks[0].lane.measurer._plans = None
    for batch in batches():
        train_step(model, optimizer, own_rows(batch, rank, RANKS), guard)
    assert "measuring" in guard.summary()
    assert guard._tracks[0].lane.ranks.left
    assert guard.counts.steps == 1
    guard.close()


def check_only_one_attaches(rank, monkeypatch):
    monkeypatch.setattr("steadygrad.ranks.handshake.PATIENCE_S", 1.0)
    model = ddp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    if rank == 0:
        watch = sg.watch(model, optimizer)
        assert watch._tracks[0].lane.ranks is None
    for batch in batches(2):
        train_step(model, optimizer, own_rows(batch, rank, RANKS))
    if rank == 0:
        assert watch.counts.steps == 2
        watch.close()


def check_only_one_attaches_to_sharded(rank, monkeypatch):
    """The norm of a whole tensor would wait for ever: a watch measures its own parts, a guard is refused."""
    monkeypatch.setattr("steadygrad.ranks.handshake.PATIENCE_S", 1.0)
    for late in (False, True):
        model = fsdp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        if rank == 0:
            with pytest.raises(
                UsageError, match=r"ranks \[1\] attached nothing, and parameters are cut over"
            ):
                guarded(model, auto())
            watch = Monitor(
                "watch", model, [optimizer], None, run=None, max_skips=None, overhead=0.5, late=late
            )
        for batch in batches(2):
            train_step(model, optimizer, own_rows(batch, rank, RANKS))
        if rank == 0:
            own = [param.grad.to_local().norm().item() for param in model.parameters()]
            assert "switched off" not in watch.summary()  # which asks for what is under way
            assert watch.last.norms.tolist() == pytest.approx(own, rel=1e-5)
            assert watch.counts.steps == 2
            watch.close()
        dist.barrier()


def check_watch_here_and_guard_there(rank):
    model = fsdp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    if rank == 0:
        with pytest.raises(UsageError, match=r"ranks \[1\] have a watch, the others a guard"):
            sg.guard(model, optimizer, recover=False)
    else:
        sg.watch(model, optimizer)
    for batch in batches(2):
        train_step(model, optimizer, own_rows(batch, rank, RANKS))
    dist.barrier()


def check_accumulation(rank):
    """Only the last of two backward passes reduces; still one collective a step."""
    alone, model = seeded(), ddp()
    alone_optimizer, alone_guard = guarded(alone, clip_norm(0.5))
    optimizer, guard = guarded(model, clip_norm(0.5))
    for batch in batches(3):
        train_step(alone, alone_optimizer, batch)
        optimizer.zero_grad()
        x, y = own_rows(batch, rank, RANKS)
        with model.no_sync():
            (0.5 * nn.functional.mse_loss(model(x[:2]), y[:2])).backward()
        (0.5 * nn.functional.mse_loss(model(x[2:]), y[2:])).backward()
        optimizer.step()
        assert guard.last.total_norm == pytest.approx(alone_guard.last.total_norm, rel=1e-5)
    assert guard._tracks[0].lane.ranks.calls == 3
    guard.close()


def every_check(rank):
    with pytest.MonkeyPatch.context() as monkeypatch:
        check_like_one_process(rank, ddp())
        check_like_one_process(rank, ddp(), policy=auto)
        check_like_one_process(rank, ddp(Tagger), make=Tagger)
        check_like_one_process(rank, ddp(), late=True)
        check_like_one_process(rank, fsdp())
        check_like_one_process(rank, fsdp(), policy=auto)
        check_like_one_process(rank, fsdp(), late=True)
        check_like_one_process(rank, tensor_parallel(), split=False)
        check_payload(rank)
        check_payload_with_weights(rank)
        check_guilty_nan(rank)
        check_guilty_of_all(rank)
        check_local_norms(rank)
        check_accumulation(rank)
        check_own_step(rank, monkeypatch)
        check_a_fault_of_one(rank)
        dist.barrier()
        check_watch_here_and_guard_there(rank)
        check_only_one_attaches(rank, monkeypatch)
        dist.barrier()
        check_only_one_attaches_to_sharded(rank, monkeypatch)
        check_last_words(rank)
        check_a_rank_that_dies(rank)


def check_last_words(rank):
    """Whose script ended by itself says so, and who ended for want of the other tells it; nobody waits for nothing."""
    peers = Peers(rank, RANKS, "words", replicated=True)
    own = (
        ValueError("no such\nfile")
        if rank
        else RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    )
    told = "this is rank 0, and it ends since rank 1 of 2 has ended with ValueError: no such. Look at the output there."
    assert farewell(peers, own) == ("" if rank else told)
    dist.barrier()
    both = Peers(rank, RANKS, "both", replicated=True)  # both connections broke: it was neither
    assert farewell(both, RuntimeError("gloo: Connection reset")) == ""
    dist.barrier()


def check_a_rank_that_dies(rank):
    """The last check: rank 1 goes, and rank 0, which serves the store, is told by name."""
    model = ddp()
    if rank == 1:
        os._exit(0)
    with pytest.raises(RuntimeError) as broken:
        train_step(model, torch.optim.SGD(model.parameters()), batches()[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steadygrad.ranks.farewell.PATIENCE_S", 1.0)
        text = farewell(Peers(0, RANKS, "gone", replicated=True), broken.value)
    assert "rank 1 of 2 has died, or doesn't answer" in text
    ranks = Ranks(Peers(0, RANKS, "steadygrad/dies", replicated=False), [torch.ones(3)], late=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steadygrad.ranks.ranks.PATIENCE_S", 1.0)
        with pytest.raises(RankLost, match="rank 1 of 2 has died or doesn't answer; this is rank 0"):
            ranks.join(torch.ones(3), None, 0)


def test_two_ranks_do_what_one_process_does():
    run_world(every_check, RANKS)
