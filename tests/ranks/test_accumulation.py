"""Two ranks that add up the gradients of micro-batches and speak to each other once a step, compiled and not.

`DistributedDataParallel.no_sync` and FSDP2's ``set_requires_gradient_sync(False)`` keep each rank's gradients apart until the
last micro-batch: what is judged is what the optimizer is about to use, and that is the gradient of one process.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from tests.monitor.workloads import weights
from tests.ranks.worlds import (
    assert_same_weights,
    batches,
    own_rows,
    run_world,
    seeded,
)
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from steadygrad.monitor import Monitor
from steadygrad.policies import clip_norm

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
RANKS = 2
MICRO = 4
STEPS = 4
POISONED = 2
WIDE = 1e9
"""A bound that no gradient comes near: such a guard only skips."""


class Net(nn.Module):
    """Two layers, the first of which is computed twice, and makes a NaN of a first feature below -4."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.head(checkpoint(self._hidden, x, use_reentrant=False))

    def _hidden(self, x):
        return torch.tanh(self.body(x)) + torch.log(x[:, :1] + 4.0)


def ddp():
    return DistributedDataParallel(seeded(Net))


def fsdp():
    model = seeded(Net)
    fully_shard(model.body)
    fully_shard(model)
    return model


def micro_batches(step, *, poison=False):
    """Of all ranks; the last row, which is the last rank's, may hold what the logarithm makes a NaN of."""
    found = batches(STEPS * MICRO)[step * MICRO : (step + 1) * MICRO]
    for x, _ in found:
        x.clamp_(-3.0)
    if poison and step == POISONED:
        found[1][0][-1, 0] = -5.0
    return found


def one_step(model, optimizer, rows, syncs):
    optimizer.zero_grad()
    for number, (x, y) in enumerate(rows):
        with syncs(number == len(rows) - 1):
            (nn.functional.mse_loss(model(x), y) / len(rows)).backward()


def syncing(model, last):
    """What keeps a rank's gradients to itself until the last micro-batch."""
    if isinstance(model, DistributedDataParallel):
        return nullcontext() if last else model.no_sync()
    model.set_requires_gradient_sync(last)
    return nullcontext()


def trained(rank, make, compiled, mode, policy=None, *, poison=False):
    """A training on ranks: the model, its monitor and the Readings it has handed on."""
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    called = torch.compile(model, backend="aot_eager") if "model" in compiled else model
    monitor = None
    if mode is not None:
        monitor = Monitor(
            mode, called, [optimizer], policy, run=None, max_skips=10, overhead=0.02, recover=None
        )
    step = torch.compile(optimizer.step, backend="eager") if "step" in compiled else optimizer.step
    for number in range(STEPS):
        rows = [own_rows(one, rank, RANKS) for one in micro_batches(number, poison=poison)]
        one_step(called, optimizer, rows, partial(syncing, model))
        step()
    return model, monitor


def alone(max_norm=None, *, poison=False):
    """The truth: one process, eager, clipped by hand; norms of each step."""
    model, norms = seeded(Net), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for number in range(STEPS):
        one_step(model, optimizer, micro_batches(number), lambda last: nullcontext())
        if poison and number == POISONED:
            optimizer.zero_grad()
        norms.append([0.0 if p.grad is None else p.grad.norm().item() for p in model.parameters()])
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
    return model, norms


def check(rank, make, compiled):
    truth, norms = alone()
    model, monitor = trained(rank, make, compiled, "watch")
    assert monitor.counts.steps == STEPS
    ours = [reading.norms.tolist() for reading in monitor.recent]
    for one, other in zip(ours, norms, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    monitor.close()
    bare, _ = trained(rank, make, compiled, None)
    assert weights(local(model)) == weights(local(bare))
    assert_same_weights(model, truth, rtol=1e-4, atol=1e-6)

    by_hand, _ = alone(0.05)
    model, monitor = trained(rank, make, compiled, "guard", clip_norm(0.05))
    assert monitor.counts.clipped == monitor.counts.steps == STEPS
    assert_same_weights(model, by_hand, rtol=1e-4, atol=1e-6)
    monitor.close()

    without, _ = alone(poison=True)
    model, monitor = trained(rank, make, compiled, "guard", clip_norm(WIDE), poison=True)
    assert [reading.step for reading in monitor.recent if reading.skipped] == [POISONED]
    assert_same_weights(model, without, rtol=1e-4, atol=1e-6)
    (told,) = [one.summary for one in monitor.findings if one.kind.startswith("nonfinite_")]
    if make is ddp:
        assert "aten.log" in told, told
        assert "torch.log(x[:, :1] + 4.0)" in told, told
    else:
        assert "Where it began isn't known: a step of a sharded model" in told, told
    assert "switched off" not in monitor.summary()
    monitor.close()


def local(model):
    """Parameters as this rank holds them, in something that has parameters."""
    parts = [getattr(param, "_local_tensor", param).detach() for param in model.parameters()]
    return nn.ParameterList(nn.Parameter(part) for part in parts)


def every_way(make, rank):
    for compiled in ("", "model", "model and step") if make is ddp else ("", "model and step"):
        check(rank, make, compiled)


@pytest.mark.parametrize("make", [ddp, fsdp])
def test_micro_batches_on_two_ranks_are_judged_as_one_step(make):
    run_world(partial(every_way, make), RANKS)
