"""Two data-parallel ranks, one of which has a NaN: both leave the step out, and both say whose it was."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist
from tests.ranks.worlds import run_world
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import steadygrad as sg
from steadygrad.ranks import Peers, word

RANKS = 2


class Logs(nn.Module):
    """Takes a logarithm, of something that may be 0."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.body(x).relu()) + torch.log(x[:, :1])


def batch(step, rank):
    generator = torch.Generator().manual_seed(100 * step + rank)
    return torch.rand(8, 4, generator=generator) + 0.1


def made():
    torch.manual_seed(0)
    model = Logs()
    return model, torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)


def train(model, optimizer, batches):
    for x in batches:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def alone(poisoned):
    """The same training in one process, on the batches of both ranks together."""
    model, optimizer = made()
    train(
        model,
        optimizer,
        [torch.cat([batch(i, r) for r in range(RANKS)]) for i in range(6) if i not in poisoned],
    )
    return model


def check_one_rank(rank, fault):
    model, _ = made()
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    guard = sg.guard(model, optimizer)
    batches = [batch(i, rank) for i in range(6)]
    if rank == 1:
        batches[3][5, 0] = fault
    train(model, optimizer, batches)
    assert guard.counts.skipped == 1
    assert "switched off" not in guard.summary()
    for a, b in zip(alone({3}).parameters(), model.module.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)
    (finding,) = guard.findings
    assert finding.step == 3
    assert "Rank 1 alone of 2 brought it at step 3" in finding.summary
    assert finding.evidence["guilty_rank"] == 1.0
    expected = "batch" if math.isnan(fault) else "aten.log"
    assert expected in finding.summary
    assert finding.summary.count("row 5") == 1
    assert ("), batch row 5. Rank 1 alone" if math.isnan(fault) else "), batch row 5 at ") in finding.summary
    if rank == 1:
        assert finding.kind == ("nonfinite_input" if math.isnan(fault) else "nonfinite_activation")
        assert finding.evidence["first batch row"] == 5.0
    guard.close()


def check_both(rank):
    model, _ = made()
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005)
    guard = sg.guard(model, optimizer)
    x = batch(0, rank)
    x[2, 0] = 0.0
    train(model, optimizer, [x])
    assert "aten.log" in guard.findings[0].summary
    assert "All 2 ranks have it" in guard.findings[0].summary
    guard.close()


def check_a_rank_that_is_late(rank):
    """Whoever doesn't answer costs a bounded wait."""
    peers = Peers(rank, RANKS, "late", replicated=True)
    word.PATIENCE_S = 1.0
    for one in range(RANKS):
        if rank == one:
            assert word.exchange(peers, f"rank {one} alone", "here") == {one: "here"}
        dist.barrier()
    assert word.exchange(peers, "both", f"here is {rank}") == {0: "here is 0", 1: "here is 1"}


def every_check(rank):
    check_one_rank(rank, math.nan)
    check_one_rank(rank, 0.0)
    check_both(rank)
    check_a_rank_that_is_late(rank)


@pytest.mark.slow
def test_two_ranks_name_the_guilty_one():
    run_world(every_check, RANKS)
