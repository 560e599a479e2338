"""FSDP2 on two processes: every rank sees the norms a single process would."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
import torch
from tests.measure.reference import slow_norms, slow_total
from tests.monitor.workloads import attach, batches, mlp, seeded, step
from tests.ranks.worlds import run_world

from steadygrad.policies import auto, clip_norm

pytestmark = pytest.mark.filterwarnings("ignore")
RANKS = 2
PATIENCE = timedelta(seconds=20)
STREAM = batches(6)


def sharded(policy, *, late, mode="guard", fused=False):
    """The same model as on one process, its parameters spread over the ranks, with a monitor on it."""
    from torch.distributed.fsdp import fully_shard

    model = seeded(mlp)
    for layer in model:
        if any(True for _ in layer.parameters()):
            fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    return model, optimizer, attach(mode, model, optimizer, policy, late=late, overhead=1.0)


def single(policy, mode="guard"):
    model = seeded(mlp)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return model, optimizer, attach(mode, model, optimizer, policy, overhead=1.0)


def check_norms(late):
    alone, alone_optimizer, _ = single(None, "watch")
    model, optimizer, monitor = sharded(None, late=late, mode="watch")
    for batch in STREAM[:3]:
        step(alone, alone_optimizer, batch)
        step(model, optimizer, batch)
        grads = [param.grad for param in alone.parameters()]
        assert monitor.last.norms.tolist() == pytest.approx(slow_norms(grads), rel=1e-4)
        assert monitor.last.total_norm == pytest.approx(slow_total(grads), rel=1e-4)


def check_clipping(make, late, fused):
    alone, alone_optimizer, _ = single(make())
    model, optimizer, guard = sharded(make(), late=late, fused=fused)
    for batch in STREAM:
        step(alone, alone_optimizer, batch)
        step(model, optimizer, batch)
    for a, b in zip(alone.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(b.full_tensor(), a, rtol=1e-3, atol=1e-5)
    assert guard.last is not None
    assert "switched off" not in guard.summary(), guard.summary()


def check_skip_and_overflow(rank, late, fused):
    model, optimizer, guard = sharded(clip_norm(1.0), late=late, fused=fused)
    step(model, optimizer, STREAM[0])
    before = [param.full_tensor().clone() for param in model.parameters()]
    for param in model.parameters():
        param.grad.to_local().fill_(1.0)
    if rank == 0:  # only one rank holds it, all of them must leave the step out
        next(model.parameters()).grad.to_local().fill_(math.nan)
    optimizer.step()
    assert guard.last.skipped
    for a, param in zip(before, model.parameters(), strict=True):
        assert torch.equal(a, param.full_tensor())
    for param in model.parameters():
        param.grad.to_local().fill_(1e38)
    optimizer.step()
    assert not guard.last.skipped
    assert guard.last.total_norm == pytest.approx(1e38 * math.sqrt(sum(a.numel() for a in before)), rel=1e-5)


def check_clocks_that_differ(rank, late):
    """What one rank finds affordable and the other doesn't must not make one wait for the other."""
    model, optimizer, guard = sharded(clip_norm(1.0), late=late)
    guard._tracks[0].lane._moves.budget._next = 1 if rank == 0 else 10**9
    for batch in STREAM[:4]:
        step(model, optimizer, batch)
    assert guard.last is not None


def every_check(rank):
    for late in (False, True):
        check_norms(late)
        for fused in (False, True):
            check_clipping(lambda: clip_norm(0.2), late, fused)
            check_skip_and_overflow(rank, late, fused)
        check_clipping(auto, late, fused=False)
        check_clocks_that_differ(rank, late)


@pytest.mark.slow
def test_two_ranks_see_what_one_process_sees():
    run_world(every_check, RANKS, patience=PATIENCE)
