"""On an accelerator no rank's host waits: counted at the dispatcher in a world of two, with that path forced on the CPU."""

from __future__ import annotations

import pytest
import torch
from tests.ranks.worlds import Net, batches, own_rows, run_world, seeded
from tests.test_no_host_read import HostReads
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from steadygrad.monitor import Monitor
from steadygrad.policies import auto, clip_norm

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
RANKS = 2


def sharded():
    model = seeded(Net)
    fully_shard(model)
    return model


def reads(rank, model, policy):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    guard = None
    if policy is not None:
        guard = Monitor("guard", model, [optimizer], policy, run=None, max_skips=10, overhead=0.02, late=True)
    counted = []
    for batch in batches():
        x, y = own_rows(batch, rank, RANKS)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        with HostReads() as seen:
            optimizer.step()
        counted.append(seen.seen)
    if guard is not None:
        assert len(guard.recent) == len(counted)
        assert "switched off" not in guard.summary()
        guard.close()
    return counted


def check(rank):
    for make in (lambda: DistributedDataParallel(seeded(Net)), sharded):
        plain = reads(rank, make(), None)
        for policy in (auto(), clip_norm(0.01)):
            assert reads(rank, make(), policy) == plain


def test_a_guard_on_ranks_reads_nothing_more():
    run_world(check, RANKS)
