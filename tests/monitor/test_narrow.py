"""Models and optimizers that keep numbers of eight bits, of which torch takes no norm."""

from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.workloads import attach, batches, mlp, seeded
from torch import nn

from steadygrad.recover import rollback

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])
attached = pytest.mark.parametrize(
    ("mode", "recover"), [("watch", None), ("guard", None), ("guard", rollback(every=5))]
)
NARROW = torch.float8_e4m3fn


def narrow(*shape):
    return torch.zeros(*shape).to(NARROW)


class OwnStep(torch.optim.Optimizer):
    """Widens what it computes with, and keeps its momentum in eight bits."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.01})

    @torch.no_grad()
    def step(self, closure=None):
        del closure
        for param in self.param_groups[0]["params"]:
            if param.grad is None:
                continue
            kept = self.state[param].setdefault("momentum", narrow(*param.shape))
            moved = 0.5 * kept.float() + param.grad.float()
            kept.copy_(moved)
            param.copy_(param.float() - 0.01 * moved)


@both_paths
@attached
def test_a_buffer_and_state_of_eight_bits(mode, recover, late):
    model = seeded(mlp)
    model.register_buffer("amax", narrow(4))
    optimizer = OwnStep(model.parameters())
    optimizer.state[model[0].weight]["momentum"] = narrow(8, 6)
    monitor = attach(mode, model, optimizer, recover=recover, late=late)
    for step, batch in enumerate(batches(20)):
        model.zero_grad()
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        (loss * math.nan if step == 12 and mode == "guard" else loss).backward()
        optimizer.step()
    assert monitor.healthy
    assert monitor.counts.steps >= 19
    assert monitor._logbook.faults == []


@pytest.mark.parametrize(
    ("mode", "recover", "late"),
    # On an accelerator a guard scales each step's gradients, which torch doesn't do with these.
    [
        ("watch", None, False),
        ("watch", None, True),
        ("guard", None, False),
        ("guard", rollback(every=5), False),
    ],
)
def test_gradients_and_weights_of_eight_bits(mode, recover, late):
    model = nn.Module()
    model.weight = nn.Parameter(torch.ones(4, 4).to(NARROW))
    model.other = nn.Parameter(torch.ones(3))
    optimizer = OwnStep(model.parameters())
    monitor = attach(mode, model, optimizer, recover=recover, late=late)
    for _ in range(20):
        model.weight.grad = torch.ones(4, 4).to(NARROW)
        model.other.grad = torch.ones(3)
        optimizer.step()
    monitor.findings  # noqa: B018 - has what is under way arrive
    assert monitor.last.norms.tolist() == pytest.approx([4.0, math.sqrt(3.0)])
    assert monitor._logbook.faults == []
