"""Pipeline stages go back together, are saved together, and wrong groups raise on every rank."""

from __future__ import annotations

import io
import math
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.ranks.real_models import batches
from tests.ranks.recoveries import COPIED_AT, EVERY, FAULT_AT, STEPS, alike, state, strike
from tests.ranks.stages import both_stages, pipeline, pipeline_step, whole_step
from tests.ranks.worlds import run_world
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import steadygrad as sg
from steadygrad.errors import UsageError
from steadygrad.policies import clip_norm

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def check_goes_back(rank):
    """One stage's weights are written to; both stages go back to the copy of the same step."""
    stage = both_stages()[rank]
    optimizer = adamw(stage)
    recover = sg.recover.rollback(every=EVERY)
    guard = sg.guard(stage, optimizer, recover=recover, replica_groups={"*": [rank]})
    running, seen, back_at = pipeline(stage, rank), [], None
    for step, batch in enumerate(batches(torch.float32, STEPS)):
        seen.append(state(stage, optimizer))
        pipeline_step(running, rank, optimizer, batch, guard)
        if step == FAULT_AT and rank == 0:
            strike(stage, math.nan)
        if guard._rescue.rollbacks and back_at is None:
            back_at = step
            for now, then in zip(state(stage, optimizer), seen[COPIED_AT], strict=True):
                assert torch.equal(now, then)
    assert guard._rescue.rollbacks == 1
    assert alike((back_at, [(one.norms.tolist(), one.skipped) for one in guard.recent]))
    assert all(bool(torch.isfinite(one).all()) for one in state(stage, optimizer))
    assert "switched off" not in guard.summary()
    guard.close()


def check_saves(rank, folder):
    stage = both_stages()[rank]
    optimizer = adamw(stage)
    guard = sg.guard(stage, optimizer, recover=False, replica_groups={"*": [rank]})
    running = pipeline(stage, rank)
    for batch in batches(torch.float32, 2):
        pipeline_step(running, rank, optimizer, batch, guard)
    assert guard.healthy
    assert guard.save(folder / "last")
    saved = torch.load(folder / "last" / f"rank{rank}.pt", weights_only=True)
    for name, value in stage.state_dict().items():
        assert torch.equal(saved["model"][name], value)
    guard.load_state_dict(saved["guard"])
    if rank == 1:
        strike(stage, math.inf)
    assert not guard.healthy
    assert not guard.save(folder / "last")
    again = torch.load(folder / "last" / f"rank{rank}.pt", weights_only=True)
    assert all(bool(torch.isfinite(one).all()) for one in again["model"].values())
    guard.close()


def check_misuse(rank):
    """The same error on every rank, and nothing is attached."""
    stage = both_stages()[rank]
    optimizer = torch.optim.SGD(stage.parameters(), lr=0.1)
    first = dist.new_group([0])
    wrong = {
        "embed.weight is said to be replicated over ranks 0-1, but rank 1 doesn't hold it": {"*": None},
        "'experts' matches none on any rank": {"experts": None, "*": [rank]},
        "expected the same patterns on every rank": {f"{rank}": None, "*": [rank]},
        "rank 1 holds block.*, but the group handed in for it there doesn't have that rank": {"*": first},
    }
    for told, groups in wrong.items():
        with pytest.raises(UsageError, match=told):
            sg.guard(stage, optimizer, replica_groups=groups)
    optimizer.param_groups[0]["lr"] = 0.1 * (1 + rank)
    with pytest.raises(UsageError, match="the same parameter groups"):
        sg.guard(stage, optimizer, replica_groups={"*": [rank]})
    guard = sg.guard(stage, optimizer, policy=clip_norm(1.0), replica_groups={"*": [rank]})
    same = sg.guard(stage, optimizer, replica_groups={"*": [rank]})
    assert same is guard
    with pytest.raises(UsageError, match="its replica_groups= can't be changed"):
        sg.guard(stage, optimizer, replica_groups={"b*": None})
    guard.close()


def check_it_is_said(rank):
    """Without a word on the groups each stage judges alone, and rank 0 says so."""
    stage = both_stages()[rank]
    optimizer = torch.optim.SGD(stage.parameters(), lr=0.1)
    del os.environ["STEADYGRAD_QUIET"]
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as heard:
        patch.setattr("sys.stderr", heard)
        with sg.guard(stage, optimizer) as guard:
            assert guard._tracks[0].lane.ranks is None
        text = heard.getvalue()
    os.environ["STEADYGRAD_QUIET"] = "1"
    assert ("2 ranks, whose model is no DistributedDataParallel" in text) is (rank == 0)


def check_new_parameters(rank):
    """Ranks whose parameter groups differ from then on can't agree on a step: said, left out, all else goes on as before."""
    stage = both_stages()[rank]
    optimizer = torch.optim.SGD(stage.parameters(), lr=0.01)
    new = torch.nn.Parameter(torch.ones(3))
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as heard:
        patch.setattr("sys.stderr", heard)
        patch.delenv("STEADYGRAD_QUIET", raising=False)
        guard = sg.guard(stage, optimizer, recover=False, replica_groups={"*": [rank]})
        running = pipeline(stage, rank)
        for step, batch in enumerate(batches(torch.float32, 16)):
            if step == 2 and rank == 1:
                optimizer.add_param_group({"params": [new]})
            if step == 3 and rank == 1:  # a row that goes on, while the norms of weights aren't due
                stage.head.bias = optimizer.param_groups[0]["params"][-1] = torch.nn.Parameter(torch.zeros(1))
            done = graded(new, stage.head.weight if rank == 1 else stage.embed.weight, nan=step == 5)
            pipeline_step(running, rank, optimizer, batch, guard)
            done()
        text = heard.getvalue()
    assert ("group1.param0: joined the optimizer after the ranks" in text) is (rank == 1)
    assert ("needs the same parameter groups" in text) is (rank == 1)
    assert text.count("joined the optimizer") == (rank == 1)
    assert guard.counts.steps == 16
    assert [one.step for one in guard.recent if one.skipped] == [5]
    assert "switched off" not in guard.summary()
    assert alike([(one.norms.tolist(), one.total_norm) for one in guard.recent])
    # It goes its own way, but for the step that is left out.
    assert torch.allclose(new, 1.0 - 0.01 * 13 * torch.ones(3) * (rank == 1))
    guard.close()


def graded(new, param, *, nan):
    """In the backward pass ``new`` gets a gradient of ones, and ``param`` perhaps a NaN."""

    def hook(grad):
        new.grad = torch.ones(3)
        return torch.full_like(grad, math.nan) if nan else None

    return param.register_hook(hook).remove


def two_ranks(rank):
    folder = Path(everywhere_first(tempfile.mkdtemp() if rank == 0 else ""))
    try:
        check_goes_back(rank)
        check_saves(rank, folder)
        check_misuse(rank)
        check_it_is_said(rank)
        check_new_parameters(rank)
        dist.barrier()
    finally:
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


def everywhere_first(value):
    held = [value]
    dist.broadcast_object_list(held)
    return held[0]


def test_two_stages_go_back_and_are_saved_together():
    run_world(two_ranks, 2)


def sharded_stages(rank):
    """Each stage under FSDP2 on two ranks: its mesh decides who holds it."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pp", "dp"))
    index = rank // 2
    alone, stage = both_stages(), both_stages()[index]
    fully_shard(stage, mesh=mesh["dp"])
    alone_optimizer, optimizer = (torch.optim.SGD(one.parameters(), lr=0.05) for one in (alone, stage))
    alone_guard = sg.guard(alone, alone_optimizer, policy=clip_norm(0.5), recover=False)
    guard = sg.guard(stage, optimizer, policy=clip_norm(0.5), replica_groups={"*": mesh["dp"]})
    running = pipeline(stage, index, group=mesh["pp"].get_group())
    for batch in batches(torch.float32, 4):
        whole_step(alone, alone_optimizer, batch, alone_guard)
        pipeline_step(running, index, optimizer, batch, guard)  # both data ranks take in the same rows
        ours, one = guard.last, alone_guard.last
        assert ours.total_norm == pytest.approx(one.total_norm, rel=1e-5)
        assert ours.norms.tolist() == pytest.approx(one.norms.tolist(), rel=1e-4, abs=1e-6)
        assert ours.clip_coef == pytest.approx(one.clip_coef, rel=1e-5)
    for mine, whole in zip(stage.parameters(), alone[index].parameters(), strict=True):
        torch.testing.assert_close(mine.full_tensor(), whole, rtol=1e-4, atol=1e-6)
    with pytest.raises(UsageError, match="can't be written as one file a rank"):
        guard.save(Path(tempfile.gettempdir()) / "never")
    assert "switched off" not in guard.summary()
    guard.close()


def test_stages_under_fully_shard():
    run_world(sharded_stages, 4)
