"""Parameters that join an optimizer of several ranks are measured, clipped and skipped like those that were there."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from tests.ranks.real_models import batches
from tests.ranks.recoveries import alike
from tests.ranks.stages import both_stages, pipeline, pipeline_step, whole_step
from tests.ranks.worlds import (
    Net,
    assert_same_norms,
    assert_same_weights,
    own_rows,
    run_world,
    seeded,
    train_step,
)
from tests.ranks.worlds import batches as small_batches
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import steadygrad as sg
from steadygrad.policies import auto, clip_norm, steady

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
STEPS, JOINS_AT, POISONED = 10, 3, 7


def without_block(stage):
    """An optimizer of all of the stage but its block, and the parameters of that."""
    late = list(stage.block.parameters())
    first = [param for name, param in stage.named_parameters() if not name.startswith("block")]
    return torch.optim.SGD(first, lr=0.02, momentum=0.9), late


def check_stage(rank, policy, folder, *, late=False, joins=(1,), recover=False):
    """A block of the last stage (or of both) is trained from a step on; beside one process that does the same."""
    alone, stage = both_stages(), both_stages()[rank]
    (first, first_late), (last, last_late) = map(without_block, alone)
    alone_optimizer = torch.optim.SGD(
        [param for one in (first, last) for param in one.param_groups[0]["params"]], lr=0.02, momentum=0.9
    )
    optimizer, own_late = without_block(stage)
    path = folder / f"{policy.__name__}-{late}-{len(joins)}.{rank}.steady"
    alone_guard = sg.guard(alone, alone_optimizer, policy=policy(), recover=False)
    with pytest.MonkeyPatch.context() as patch:
        if late:
            patch.setattr("steadygrad.monitor.is_late", lambda _: True)
            patch.setattr("steadygrad.stepping.track.is_late", lambda _: True)
        guard = sg.guard(
            stage, optimizer, policy=policy(), recover=recover, run=path, replica_groups={"*": [rank]}
        )
    running = pipeline(stage, rank)
    for step, batch in enumerate(batches(torch.float32, STEPS)):
        if step == JOINS_AT:
            new = [
                param for index, some in ((0, first_late), (1, last_late)) if index in joins for param in some
            ]
            alone_optimizer.add_param_group({"params": new})
            optimizer.add_param_group({"params": own_late if rank in joins else []})
        done = [
            poisoned(param)
            for param in (last_late[0], own_late[0])
            if step == POISONED and param.requires_grad
        ]
        whole_step(alone, alone_optimizer, batch, alone_guard)
        pipeline_step(running, rank, optimizer, batch, guard)
        for handle in done:
            handle.remove()
    compared(guard, alone_guard, from_=JOINS_AT + 2 if late else JOINS_AT + 1)
    for mine, whole in zip(stage.parameters(), alone[rank].parameters(), strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-4, atol=1e-5)
    ranks = guard._tracks[0].lane.ranks
    assert ranks.calls == STEPS
    names = [one.name for one in guard._tracks[0].table.tensors]
    guard.close()
    alone_guard.close()
    recorded = sg.open_run(path)
    assert recorded.norms(names[-1])[-1] == pytest.approx(guard.recent[-1].norms[-1], rel=0.01)
    return names


def poisoned(param):
    return param.register_hook(lambda grad: torch.full_like(grad, math.nan))


def compared(guard, alone_guard, from_):
    for ours, one in zip(guard.recent, alone_guard.recent, strict=True):
        assert ours.skipped is one.skipped is (ours.step == POISONED)
        if ours.step == JOINS_AT:
            assert len(ours.norms) < len(one.norms)  # the others don't know yet
        if (ours.step < JOINS_AT or ours.step >= from_) and not one.skipped:
            assert_same_norms(ours, one, 1e-7 * one.total_norm)
    assert alike([(one.norms.tolist(), one.total_norm, one.clip_coef, one.skipped) for one in guard.recent])
    assert "switched off" not in guard.summary(), guard.summary()


def loose():
    """Known, and never at work: so weights can be compared after the step that isn't wholly measured."""
    return clip_norm(1e9)


def stages(rank):
    folder = Path(tempfile.mkdtemp())
    try:
        names = check_stage(rank, auto, folder)
        assert names[-1].startswith("block.")
        check_stage(rank, auto, folder, late=True)
        check_stage(rank, loose, folder, joins=(0, 1))
        names = check_stage(rank, loose, folder, joins=(0, 1), late=True, recover=True)
        assert {name.partition(":")[0] for name in names[-2:]} <= {"rank 0", "rank 1"}
        check_held_back(rank)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_held_back(rank):
    """What has joined is held back with all else: the factor is that of the whole norm."""
    stage = both_stages()[rank]
    optimizer, own_late = without_block(stage)
    guard = sg.guard(stage, optimizer, policy=clip_norm(0.01), recover=False, replica_groups={"*": [rank]})
    running = pipeline(stage, rank)
    for step, batch in enumerate(batches(torch.float32, 5)):
        if step == 2:
            optimizer.add_param_group({"params": own_late})
        pipeline_step(running, rank, optimizer, batch, guard)
        if step > 2:
            squares = torch.stack([param.grad.norm() ** 2 for param in stage.parameters()]).sum()
            torch.distributed.all_reduce(squares)
            assert squares.sqrt().item() == pytest.approx(0.01, rel=1e-4)
    guard.close()


def test_what_joins_a_stage_is_measured_from_the_next_step_on():
    run_world(stages, 2)


def sharded(make=Net):
    model = seeded(make)
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    return model


def check_thawed(rank, model, policy):
    """Ranks that hold the same need no word: what joins on all of them is measured in that very step."""
    alone = seeded(Net)
    optimizers = [
        torch.optim.SGD([*one.head.parameters(), *one.blocks[1].parameters()], lr=0.05)
        for one in (alone, getattr(model, "module", model))
    ]
    alone_guard = sg.guard(alone, optimizers[0], policy=policy(), recover=False)
    guard = sg.guard(model, optimizers[1], policy=policy(), recover=False)
    for step, batch in enumerate(small_batches(8)):
        if step == JOINS_AT:
            for one, optimizer in zip((alone, getattr(model, "module", model)), optimizers, strict=True):
                optimizer.add_param_group({"params": list(one.blocks[0].parameters()), "lr": 0.01})
        train_step(alone, optimizers[0], batch)
        train_step(model, optimizers[1], own_rows(batch, rank, 2))
        ours, one = guard.last, alone_guard.last
        assert_same_norms(ours, one, 1e-7)
    assert alike([(one.norms.tolist(), one.clip_coef) for one in guard.recent])
    assert_same_weights(model, alone, rtol=1e-4, atol=1e-6)
    assert guard._tracks[0].lane.ranks.calls == 8
    assert "switched off" not in guard.summary(), guard.summary()
    guard.close()
    alone_guard.close()


def thawed(rank):
    for policy in (auto, steady):
        check_thawed(rank, DistributedDataParallel(seeded(Net)), policy)
        check_thawed(rank, sharded(), policy)


def test_what_joins_on_all_ranks_is_measured_at_once():
    run_world(thawed, 2)
