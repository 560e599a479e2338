"""Four ranks: FSDP2 over tensor parallel, where parameters lie on different meshes, and HSDP."""

from __future__ import annotations

import math

import pytest
import torch
from tests.ranks.recoveries import check_goes_back
from tests.ranks.worlds import batches, everywhere, own_rows, run_world, seeded, train_step
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from steadygrad.monitor import Monitor
from steadygrad.policies import auto, clip_norm

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def sharded_over_tensor_parallel(rank):
    """Linear layers on both meshes, everything else on the data mesh alone: clip_grad_norm_ fails here."""
    model = seeded()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    for block in model.blocks:
        parallelize_module(block, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
        fully_shard(block, mesh=mesh["dp"])
    fully_shard(model, mesh=mesh["dp"])
    return model, rank // 2, 2


def hybrid(rank):
    """Sharded in pairs, replicated over them."""
    model = seeded()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, rank, 4


def check(rank, make, policy):
    alone = seeded()
    model, index, of = make(rank)
    runs = []
    for one in (alone, model):
        optimizer = torch.optim.AdamW(one.parameters(), lr=0.01)
        runs.append(
            (optimizer, Monitor("guard", one, [optimizer], policy(), run=None, max_skips=10, overhead=0.02))
        )
    (alone_optimizer, alone_guard), (optimizer, guard) = runs
    stream = batches()
    stream[2][0][-1] = math.nan
    for batch in stream:
        train_step(alone, alone_optimizer, batch, alone_guard)
        train_step(model, optimizer, own_rows(batch, index, of), guard)
        assert guard.last.skipped is alone_guard.last.skipped
        if not guard.last.skipped:
            assert guard.last.total_norm == pytest.approx(alone_guard.last.total_norm, rel=1e-5)
            assert guard.last.norms.tolist() == pytest.approx(
                alone_guard.last.norms.tolist(), rel=1e-4, abs=1e-7
            )
        assert guard.last.clip_coef == pytest.approx(alone_guard.last.clip_coef, rel=1e-5)
    for theirs, own in zip(alone.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own.full_tensor(), theirs, rtol=1e-3, atol=1e-5)
    assert guard.counts.skipped == 1
    assert guard._tracks[0].lane.ranks.calls == len(stream)
    assert len(set(everywhere(repr([one.norms.tolist() for one in guard.recent])))) == 1
    assert "switched off" not in guard.summary()
    guard.close()


def both(rank):
    check(rank, sharded_over_tensor_parallel, auto)
    check(rank, sharded_over_tensor_parallel, lambda: clip_norm(0.5))
    check(rank, hybrid, lambda: clip_norm(0.5))
    for make in (sharded_over_tensor_parallel, hybrid):
        check_goes_back(*make(rank), struck=rank == 2)


def test_four_ranks_on_two_meshes_see_what_one_process_sees():
    run_world(both, 4)
