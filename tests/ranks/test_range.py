"""Gradients of any size on two ranks: what is finite is told as finite, and as one process tells it."""

from __future__ import annotations

import math

import pytest
import torch
from tests.ranks.worlds import Net, everywhere, run_world, seeded
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from steadygrad.monitor import Monitor
from steadygrad.policies import auto, clip_norm

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
RANKS = 2
# Of one element in each dtype, from where its square is nothing to where it is too much.
SIZES = {
    # In this order no norm changes by more than 1e150 at the steps that measure weights; `test_near` has those that do.
    torch.float64: (1.0, 1e-290, 1e100, 1e-40, 1e290, 1e-140, 1e170, 1e-200),
    torch.float32: (1e-30, 1e-22, 1.0, 1e19, 1e20, 1e30, 1e36),
    torch.float16: (6e-8, 1.0, 6e4),
    torch.bfloat16: (1e-30, 1.0, 1e20, 1e36),
}


def guarded(model, policy, late=False):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    guard = Monitor("guard", model, [optimizer], policy, run=None, max_skips=99, overhead=0.0, late=late)
    return optimizer, guard


def replicated(dtype):
    return DistributedDataParallel(seeded(Net).to(dtype))


def sharded(dtype):
    model = seeded(Net).to(dtype)
    fully_shard(model)
    return model


def put(model, index, value):
    """The same value everywhere in every third tensor, 1 in the others; one element of one tensor may be ill."""
    for i, param in enumerate(model.parameters()):
        param.grad = torch.full_like(param, value if i % 3 == index else 1.0)


def check_sizes(make, dtype, policy, late=False):
    """With ``late`` the accelerator's path, which mustn't look, against the host's."""
    alone, model = seeded(Net).to(dtype), make(dtype)
    (alone_optimizer, one), (optimizer, ours) = guarded(alone, policy()), guarded(model, policy(), late)
    for step in range(12):  # a step with the norms of the weights, and plain ones
        for value in SIZES[dtype][step % len(SIZES[dtype]) :][:2]:
            put(alone, step % 3, value)
            put(model, step % 3, value)
            alone_optimizer.step()
            optimizer.step()
            assert ours.last.skipped is one.last.skipped is False, value
            assert ours.last.total_norm == pytest.approx(one.last.total_norm, rel=1e-5)
            assert ours.last.norms.tolist() == pytest.approx(one.last.norms.tolist(), rel=1e-5, abs=0.0)
            assert ours.last.clip_coef == pytest.approx(one.last.clip_coef, rel=1e-5)
    ranks = ours._tracks[0].lane.ranks
    assert len(set(everywhere(repr([reading.norms.tolist() for reading in ours.recent])))) == 1
    assert "switched off" not in ours.summary()
    one.close()
    ours.close()
    return ranks


def check_one_rank_alone_is_outside(rank):
    """One rank's part is too large for its square, the other's isn't, and a NaN stays one."""
    model = sharded(torch.float64)
    optimizer, guard = guarded(model, clip_norm(1.0))
    for ill in (0.0, math.nan, math.inf):
        put(model, 0, 1.0)
        first = next(model.parameters()).grad.to_local()
        first[...] = 1e200 if rank == 0 else 3e170
        if rank == 1:
            first.view(-1)[0] += ill
        optimizer.step()
        assert guard.last.skipped is (ill != 0.0)
        if not ill:
            assert guard.last.total_norm == pytest.approx(1e200 * 2.0, rel=1e-5)  # of four elements
    assert guard._tracks[0].lane.ranks.repeats == 3
    guard.close()


def check_weights_out_of_range(rank):
    """A weight whose square is no float32 is told as it is."""
    model = sharded(torch.float32)
    with torch.no_grad():
        first, second = list(model.parameters())[:2]
        first.to_local()[...] = 1e30
        second.to_local()[...] = 1e-15
    optimizer, guard = guarded(model, auto())
    put(model, 0, 1.0)
    optimizer.step()
    told = guard.last.param_norms
    assert told[:2].tolist() == pytest.approx([1e30 * math.sqrt(8), 1e-15 * math.sqrt(8)], rel=1e-5)
    assert guard._tracks[0].lane.ranks.repeats == 1
    guard.close()


def every_check(rank):
    for make in (replicated, sharded):
        for policy in (auto, lambda: clip_norm(1.0)):
            for dtype in SIZES:
                ranks = check_sizes(make, dtype, policy)
                assert (ranks.repeats > 0) is (dtype is torch.float64), dtype
                assert check_sizes(make, dtype, policy, late=True).repeats == 0
    check_one_rank_alone_is_outside(rank)
    check_weights_out_of_range(rank)


def test_two_ranks_measure_what_one_process_does():
    run_world(every_check, RANKS)
