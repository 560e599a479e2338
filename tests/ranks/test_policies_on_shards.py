"""Policies that look at elements, rows or single tensors do to sharded gradients what they do to whole ones."""

from __future__ import annotations

import math

import pytest
import torch
from tests.ranks.test_two_ranks import RANKS, fsdp, guarded, tensor_parallel
from tests.ranks.worlds import (
    assert_same_weights,
    batches,
    everywhere,
    own_rows,
    run_world,
    seeded,
    train_step,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor

from steadygrad.measure import own_part, settle_, unit_norms
from steadygrad.measure.measurement import Measurement
from steadygrad.policies import adagc, agc, chain, clip_norm, clip_value, relative_update, steady
from steadygrad.records import TensorInfo

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
POLICIES = (
    lambda: clip_value(0.02),
    lambda: agc(0.01),
    lambda: adagc(warmup_steps=2),
    lambda: relative_update(1e-4),
    steady,
    lambda: chain(clip_norm(0.3), clip_value(0.02), agc(0.01)),
)


def check_like_one_process(rank, make_model, make_policy, *, split):
    alone, model = seeded(), make_model()
    alone_optimizer, alone_guard = guarded(alone, make_policy())
    optimizer, guard = guarded(model, make_policy())
    stream = batches()
    stream[3][0][-1] = math.nan
    for batch in stream:
        train_step(alone, alone_optimizer, batch, alone_guard)
        train_step(model, optimizer, own_rows(batch, rank, RANKS) if split else batch, guard)
        assert guard.last.skipped is alone_guard.last.skipped
        # What is recorded of elements and rows is the smallest factor on the rank itself.
        assert min(everywhere(guard.last.clip_coef)) == pytest.approx(alone_guard.last.clip_coef, rel=1e-5)
    assert alone_guard.counts.clipped
    assert_same_weights(model, alone, rtol=1e-5, atol=1e-7)
    assert "switched off" not in guard.summary()
    guard.close()


def check_units_that_are_cut(rank):
    mesh = init_device_mesh("cpu", (RANKS,))
    generator = torch.Generator().manual_seed(3)
    wholes = [torch.randn(shape, generator=generator) for shape in ((5, 3), (3, 5), (7,), (1,), (4, 2, 3))]
    cuts = [Shard(0), Shard(1), Shard(0), Shard(0), Shard(2)]  # (1,): nothing is left for rank 1
    cut = [distribute_tensor(whole, mesh, [one]) for whole, one in zip(wholes, cuts, strict=True)]
    for dtype in (torch.float32, torch.float64):
        own = [_norms(own_part(one), dtype) for one in cut]
        for i, joined in enumerate(unit_norms(own, cut)):
            truth = _norms(wholes[i], dtype)
            if cuts[i] == Shard(0) and wholes[i].dim() > 1:
                truth = truth.chunk(RANKS)[rank]
            torch.testing.assert_close(joined, truth)


def check_sum_that_is_spread():
    """The sum counts, not its summands; it takes their place as the parameter's gradient."""
    mesh = init_device_mesh("cpu", (RANKS,))
    param = torch.nn.Parameter(distribute_tensor(torch.ones(3), mesh))
    param.grad = DTensor.from_local(torch.tensor([0.4, 3.0, -0.1]), mesh, [Partial()])
    norm = torch.tensor(1.0)
    info = TensorInfo("w", (3,), "float32", 0, True)
    measurement = Measurement(norm[None], norm, [param.grad], None, [param], [info], None, (), [0])
    clip_value(0.5).rewrite_(measurement)
    assert param.grad.full_tensor().tolist() == pytest.approx([0.5, 0.5, -0.2])
    assert measurement.grads[0] is param.grad
    assert settle_(measurement)[0].tolist() == pytest.approx([0.5, 0.5, -0.2])


def _norms(tensor, dtype):
    dims = tuple(range(1, tensor.dim())) or None
    return torch.linalg.vector_norm(tensor, dim=dims, keepdim=True, dtype=dtype)


def every_check(rank):
    check_units_that_are_cut(rank)
    check_sum_that_is_spread()
    for make_policy in POLICIES:
        check_like_one_process(rank, fsdp, make_policy, split=True)
        check_like_one_process(rank, tensor_parallel, make_policy, split=False)


def test_sharded_gradients_are_treated_like_whole_ones():
    run_world(every_check, RANKS)
