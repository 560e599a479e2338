"""How far steps move weights that ranks hold parts of: measured on the steps on which all can afford it, as in one process."""

from __future__ import annotations

import pytest
import torch
from tests.ranks.real_models import batches
from tests.ranks.recoveries import alike
from tests.ranks.stages import both_stages, pipeline, pipeline_step, whole_step
from tests.ranks.worlds import Net, own_rows, run_world, seeded, train_step
from tests.ranks.worlds import batches as small_batches
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from steadygrad.monitor import Monitor
from steadygrad.policies import auto, clip_norm
from steadygrad.ranks import as_replica_groups

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
RANKS, STEPS = 2, 24


def watched(model, policy, *, late=None, lr=0.05, groups=None):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    mode = "watch" if policy is None else "guard"
    held = as_replica_groups(mode, groups)
    monitor = Monitor(
        mode, model, [optimizer], policy and policy(), run=None, max_skips=10, overhead=1.0, late=late,
        replica_groups=held,
    )  # fmt: skip
    return optimizer, monitor


def fsdp():
    model = seeded(Net)
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    return model


def tensor_parallel():
    model = seeded(Net)
    mesh = init_device_mesh("cpu", (RANKS,))
    for block in model.blocks:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


def probed(monitor):
    return {one.step: one for one in monitor.recent if one.update_norms is not None}


def compared(monitor, alone):
    """On the steps that were measured on both sides; the first is among them."""
    ours, theirs = probed(monitor), probed(alone)
    both = sorted(set(ours) & set(theirs))
    assert both[0] == 0
    for step in both:
        assert ours[step].update_norms.tolist() == pytest.approx(
            theirs[step].update_norms.tolist(), rel=1e-4, abs=1e-7
        )
        assert ours[step].param_norms.tolist() == pytest.approx(theirs[step].param_norms.tolist(), rel=1e-5)
    told = [(step, one.update_norms.tolist(), one.param_norms.tolist()) for step, one in ours.items()]
    assert alike(told)
    assert "switched off" not in monitor.summary()
    lane = monitor._tracks[0].lane
    assert lane.ranks.calls == STEPS
    assert lane.ranks.moves == len(ours) < STEPS
    return ours


def check_sharded(rank, model, policy, *, split=True, late=None):
    alone = seeded(Net)
    (alone_optimizer, one), (optimizer, ours) = watched(alone, policy), watched(model, policy, late=late)
    for batch in small_batches(STEPS):
        train_step(alone, alone_optimizer, batch)
        train_step(model, optimizer, own_rows(batch, rank, RANKS) if split else batch)
    compared(ours, one)
    ours.close()
    one.close()


def check_stages(rank):
    alone, stage = both_stages(), both_stages()[rank]
    alone_optimizer, one = watched(alone, auto)
    optimizer, ours = watched(stage, auto, groups={"*": [rank]})
    running = pipeline(stage, rank)
    for batch in batches(torch.float32, STEPS):
        whole_step(alone, alone_optimizer, batch, one)
        pipeline_step(running, rank, optimizer, batch, ours)
    compared(ours, one)
    ours.close()
    one.close()


def check_found(rank):
    """A rate far too high is told over ranks as in one process, at the same step."""
    alone, model = seeded(Net), fsdp()
    (alone_optimizer, one), (optimizer, ours) = watched(alone, None, lr=50.0), watched(model, None, lr=50.0)
    for batch in small_batches(3):
        train_step(alone, alone_optimizer, batch)
        train_step(model, optimizer, own_rows(batch, rank, RANKS))
    told = [
        [
            (found.kind, found.step, found.where)
            for found in monitor.findings
            if found.kind == "oversized_update"
        ]
        for monitor in (one, ours)
    ]
    assert told[0] == told[1] != []
    ours.close()
    one.close()


def check_one_cannot(rank):
    """A rank that fails to measure its part comes all the same, so nobody waits for it; nobody has a number then."""
    model = fsdp()
    optimizer, guard = watched(model, lambda: clip_norm(1.0))
    if rank == 1:
        guard._tracks[0].lane._moves.probe.close = broken
    for batch in small_batches(2):
        train_step(model, optimizer, own_rows(batch, rank, RANKS))
    assert not probed(guard)
    assert ("update probe" in guard.summary()) is (rank == 1)
    guard.close()


def broken(*_):
    raise RuntimeError("broken")


def every_check(rank):
    for policy in (auto, lambda: clip_norm(0.5), None):
        check_sharded(rank, fsdp(), policy)
        check_sharded(rank, fsdp(), policy, late=True)
    check_sharded(rank, tensor_parallel(), auto, split=False)
    check_stages(rank)
    check_found(rank)
    check_one_cannot(rank)


def test_two_ranks_measure_the_same_moves_as_one_process():
    run_world(every_check, RANKS)
