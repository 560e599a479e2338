"""A transformer, a residual network and an LSTM on 1, 2 and 4 ranks: norms, verdicts and skips of one process.

A rank adds up its rows and the ranks' sums are added then, one process adds all rows in a row: in float32 that alone moves
a sum by a few units of its last place (1e-7), more where it nearly cancels. Norms are equal to 1e-5 in both widths.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.distributed as dist
from tests.ranks.real_models import MODELS, batches, both, made, replicated, sharded, tensor_parallel
from tests.ranks.worlds import (
    assert_same_norms,
    assert_same_weights,
    everywhere,
    own_rows,
    run_world,
    train_step,
)

from steadygrad.monitor import Monitor
from steadygrad.policies import auto, clip_norm

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
SPREADS = {
    1: (replicated, sharded),
    2: (replicated, sharded, tensor_parallel),
    4: (replicated, sharded, tensor_parallel, both),
}
POISONED = 2


def _guarded(model, policy):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return optimizer, Monitor(
        "guard", model, [optimizer], policy, run=None, max_skips=10, overhead=0.02, recover=None
    )


def check(rank, make, spread, policy, dtype):
    alone = made(make, dtype)
    model, index, of = spread(make, dtype, rank, dist.get_world_size())
    alone_optimizer, alone_guard = _guarded(alone, policy())
    optimizer, guard = _guarded(model, policy())
    for step, batch in enumerate(batches(dtype)):
        if step == POISONED:
            batch[0][-1] = math.nan  # of data-parallel ranks only the last one has it
        train_step(alone, alone_optimizer, batch, alone_guard)
        train_step(model, optimizer, own_rows(batch, index, of), guard)
        ours, one = guard.last, alone_guard.last
        assert ours.skipped is one.skipped is (step == POISONED)
        if not one.skipped:
            # A tensor whose gradient is 0 but for rounding (the bias of an attention's keys) has no digits to compare.
            assert_same_norms(ours, one, 1e-7 * one.total_norm)
    told = [(one.norms.tolist(), one.total_norm, one.clip_coef, one.skipped) for one in guard.recent]
    assert len({repr(one) for one in everywhere(told)}) == 1
    assert_same_weights(model, alone, rtol=1e-4, atol=1e-6)
    assert "switched off" not in guard.summary()
    guard.close()


def every_model(ranks, rank):
    for spread in SPREADS[ranks]:
        for make in MODELS:
            check(rank, make, spread, auto, torch.float32)
        check(rank, MODELS[0], spread, partial(clip_norm, 0.5), torch.float64)


@pytest.mark.parametrize("ranks", sorted(SPREADS))
def test_ranks_do_what_one_process_does(ranks):
    run_world(partial(every_model, ranks), ranks)
