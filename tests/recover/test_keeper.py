"""Copies cost what they cost: everything is charged, and looked through in parts."""

from __future__ import annotations

import pytest
import torch
from tests.monitor.workloads import batches, mlp, seeded, train

import steadygrad as sg
from steadygrad.recover import soundness
from steadygrad.recover.soundness import Inspection
from steadygrad.recover.state import Live


def test_the_first_copy_is_charged_too():
    model = seeded(mlp)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with sg.guard(model, optimizer, recover=sg.recover.rollback(every=1000)) as guard:
        keeper = guard._rescue._keeper
        assert keeper._budget.spent_s == 0.0
        train(model, optimizer, batches(1))
        assert keeper.taken == 0
        assert keeper._budget.spent_s > 0.0


@pytest.mark.parametrize("parts", [1, 40, 10**6])
@pytest.mark.parametrize("broken", [False, True])
def test_moments_that_contradict_each_other_are_found_in_whatever_parts(parts, broken, monkeypatch):
    monkeypatch.setattr(soundness, "_HOST_CHUNK_NUMEL", parts)
    model = seeded(mlp)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    train(model, optimizer, batches(4))
    if broken:
        last = list(model.parameters())[-1]
        optimizer.state[last]["exp_avg"].view(-1)[-1] = 1e6
    inspection = Inspection(late=False)
    live = Live(dict(model.named_parameters()), {}, [dict(optimizer.state)], {})
    inspection.start(live, [optimizer])
    assert inspection.take() == (["Adam's moments"] if broken else [])
