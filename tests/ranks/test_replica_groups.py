"""Ranks that hold different tensors: pipeline stages on two ranks, experts on two ranks times two of data."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.distributed as dist
from tests.ranks.real_models import batches
from tests.ranks.stages import (
    SCHEDULES,
    both_stages,
    mixture,
    mixture_step,
    pipeline,
    pipeline_step,
    whole_step,
)
from tests.ranks.worlds import assert_same_norms, everywhere, own_rows, run_world
from torch.nn.parallel import DistributedDataParallel

import steadygrad as sg
from steadygrad.policies import auto, clip_norm, relative_update, steady

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
STEPS, POISONED = 10, 4
POLICIES = (auto, partial(clip_norm, 0.5), steady, partial(relative_update, 0.001))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def compared(guard, alone_guard, own, theirs):
    """What ranks have recorded and done, against one process."""
    for ours, one in zip(guard.recent, alone_guard.recent, strict=True):
        assert ours.skipped is one.skipped is (ours.step == POISONED)
        if not one.skipped:
            assert_same_norms(ours, one, 1e-7 * one.total_norm)
        assert ours.lr_factor == pytest.approx(one.lr_factor, rel=1e-5)
    told = [(one.norms.tolist(), one.total_norm, one.clip_coef, one.skipped) for one in guard.recent]
    assert len({repr(one) for one in everywhere(told)}) == 1
    for mine, whole in zip(own, theirs, strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-4, atol=1e-5)
    assert guard._tracks[0].lane.ranks.calls == STEPS
    assert "switched off" not in guard.summary()


def poison(param, step):
    """A NaN in one gradient of one rank's own tensor, as a device that fails makes it."""
    if step != POISONED:
        return lambda: None
    handle = param.register_hook(lambda grad: torch.full_like(grad, math.nan))
    return handle.remove


def check_pipeline(rank, schedule, policy, optimizer_of, late=False):
    alone = both_stages()
    stage = both_stages()[rank]
    alone_optimizer, optimizer = optimizer_of(alone), optimizer_of(stage)
    alone_guard = sg.guard(alone, alone_optimizer, policy=policy(), recover=False)
    with pytest.MonkeyPatch.context() as patch:
        if late:
            patch.setattr("steadygrad.monitor.is_late", lambda _: True)
            patch.setattr("steadygrad.stepping.track.is_late", lambda _: True)
        guard = sg.guard(stage, optimizer, policy=policy(), recover=False, replica_groups={"*": [rank]})
    running = pipeline(stage, rank, schedule)
    for step, batch in enumerate(batches(torch.float32, STEPS)):
        done = poison(alone[0].embed.weight, step)
        whole_step(alone, alone_optimizer, batch, alone_guard)
        done()
        done = poison(stage.embed.weight, step) if rank == 0 else lambda: None
        pipeline_step(running, rank, optimizer, batch, guard)
        done()
    compared(guard, alone_guard, stage.parameters(), alone[rank].parameters())
    names = [one.name for one in guard._tracks[0].table.tensors]
    assert names[0] == "embed.weight"
    assert names[-1] == "head.bias"
    assert {"rank 0: block.up.weight", "rank 1: block.up.weight"} < set(names)
    found = next(one for one in guard.findings if one.kind == "nonfinite_gradient")
    assert found.where == ("embed.weight",)
    assert "brought it" not in found.summary
    guard.close()
    alone_guard.close()


def pipelines(rank):
    check_pipeline(rank, SCHEDULES[0], auto, sgd)
    check_pipeline(rank, SCHEDULES[1], auto, adamw)
    check_pipeline(rank, SCHEDULES[0], POLICIES[1], sgd, late=True)
    for policy in POLICIES[1:]:
        check_pipeline(rank, SCHEDULES[0], policy, sgd)


def test_a_pipeline_in_two_stages_does_what_one_process_does():
    run_world(pipelines, 2)


def expert_groups(rank):
    """Of this rank: the group of its experts, and the one that its expert is replicated over."""
    parallel = [dist.new_group(ranks) for ranks in ([0, 1], [2, 3])]
    data = [dist.new_group(ranks) for ranks in ([0, 2], [1, 3])]
    return parallel[rank // 2], data[rank % 2]


def check_experts(rank, policy, optimizer_of, poisoned, groups):
    parallel, data = groups
    alone, model = mixture(), mixture(rank % 2, parallel)
    alone_optimizer, optimizer = optimizer_of(alone), optimizer_of(model)
    alone_guard = sg.guard(alone, alone_optimizer, policy=policy(), recover=False)
    guard = sg.guard(model, optimizer, policy=policy(), recover=False, replica_groups={"experts.*": data})
    for step, batch in enumerate(batches(torch.float32, STEPS)):
        done = poison(alone.get_parameter(poisoned), step)
        mixture_step(alone, alone_optimizer, batch, monitor=alone_guard)
        done()
        mine = dict(model.named_parameters()).get(poisoned) if rank < 2 else None
        done = poison(mine, step) if mine is not None else lambda: None
        mixture_step(model, optimizer, own_rows(batch, rank // 2, 2), data, guard)
        done()
    theirs = dict(alone.named_parameters())
    compared(guard, alone_guard, model.parameters(), [theirs[name] for name, _ in model.named_parameters()])
    assert [one.name for one in guard._tracks[0].table.tensors] == list(theirs)
    guard.close()
    alone_guard.close()


def check_experts_beside_ddp(rank, groups):
    """DDP for what all ranks hold; a NaN in the rows of one data rank is that rank's, and no forward pass is replayed."""
    parallel, data = groups
    inner = mixture(rank % 2, parallel)
    names = [name for name, _ in inner.named_parameters() if name.startswith("experts")]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(inner, names)
    model = DistributedDataParallel(inner)
    optimizer = sgd(model)
    guard = sg.guard(model, optimizer, recover=False, replica_groups={"experts.*": data})
    for step, batch in enumerate(batches(torch.float32, 6)):
        rows = own_rows(batch, rank // 2, 2)
        if step == POISONED and rank >= 2:
            rows[0][0] = math.nan
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(rows[0]), rows[1])
        loss.backward()
        for name in names:
            gradient = inner.get_parameter(name).grad
            dist.all_reduce(gradient, group=data)
            gradient /= 2
        guard.log(loss=loss.item())
        total = guard.clip_()
        assert len(set(everywhere(repr(total.item())))) == 1
        optimizer.step()
        assert guard.last.skipped is (step == POISONED)
    found = next(one for one in guard.findings if one.kind.startswith("nonfinite"))
    assert "Ranks 2, 3 of 4 brought it at step 4" in found.summary
    assert sorted(one.name for one in guard._tracks[0].table.tensors) == sorted(
        name for name, _ in mixture().named_parameters()
    )
    assert "switched off" not in guard.summary()
    guard.close()


def mixtures(rank):
    groups = expert_groups(rank)
    check_experts_beside_ddp(rank, groups)
    check_experts(rank, auto, sgd, "experts.1.0.weight", groups)
    check_experts(rank, auto, adamw, "experts.0.2.bias", groups)
    for policy in POLICIES[1:]:
        check_experts(rank, policy, sgd, "experts.1.2.weight", groups)


def test_experts_on_two_ranks_times_two_of_data_do_what_one_process_does():
    run_world(mixtures, 4)
