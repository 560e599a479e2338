"""A healthy run under watch or guard is the same run, to the last bit."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from tests.monitor.workloads import MODELS, OPTIMIZERS, attach, batches, outcome, seeded, train

from steadygrad.policies import auto, clip_norm

STEPS = 10
LONG_STEPS = 200
# Each is one way of being attached; `overhead` is high so that update probes happen in a short run.
WAYS = {
    "watch": ("watch", None, False),
    "watch late": ("watch", None, True),
    "guard auto": ("guard", auto, False),
    "guard auto late": ("guard", auto, True),
    "guard clip_norm": ("guard", lambda: clip_norm(1e9), False),
    "guard clip_norm late": ("guard", lambda: clip_norm(1e9), True),
}


def run(make_model, make_optimizer, way=None, steps=STEPS):
    model = seeded(make_model)
    optimizer = make_optimizer(model.parameters())
    monitor = None
    if way is not None:
        mode, policy, late = way
        monitor = attach(mode, model, optimizer, policy and policy(), late=late, overhead=1.0)
    losses = train(model, optimizer, batches(steps))
    if monitor is not None:
        monitor.close()
        assert monitor.counts.steps == steps
        assert monitor.counts.clipped == monitor.counts.skipped == 0
        assert "switched off" not in monitor.summary()
    return losses, outcome(model, optimizer)


@pytest.mark.parametrize(
    ("model", "optimizer"),
    list(itertools.product(MODELS, OPTIMIZERS)),
    ids=lambda name: name.replace(" ", "-"),
)
def test_weights_state_and_losses_are_bit_identical(model, optimizer):
    plain = run(MODELS[model], OPTIMIZERS[optimizer])
    for name, way in WAYS.items():
        losses, final = run(MODELS[model], OPTIMIZERS[optimizer], way)
        assert losses == plain[0], name
        assert final == plain[1], name


def muon(parameters):
    """It takes matrices only; the others are left as they are."""
    return torch.optim.Muon([p for p in parameters if p.ndim == 2], lr=1e-3)


LONG = {
    "SGD nesterov": OPTIMIZERS["SGD nesterov"],
    "AdamW": OPTIMIZERS["AdamW"],
    "RMSprop": OPTIMIZERS["RMSprop"],
    "ASGD": partial(torch.optim.ASGD, lr=0.01),
    "LBFGS": OPTIMIZERS["LBFGS"],
    "Muon": muon,
}


@pytest.mark.parametrize("name", LONG)
def test_so_is_a_longer_run(name):
    """LBFGS sees another noisy batch in each step, which makes its norms the wildest."""
    if not hasattr(torch.optim, name.split()[0]):
        pytest.skip("this torch doesn't have it")
    plain = run(MODELS["MLP"], LONG[name], steps=LONG_STEPS)
    for way in ("guard auto", "guard auto late"):
        losses, final = run(MODELS["MLP"], LONG[name], WAYS[way], steps=LONG_STEPS)
        assert losses == plain[0], way
        assert final == plain[1], way


def test_the_comparison_sees_a_run_that_was_touched():
    plain = run(MODELS["MLP"], OPTIMIZERS["SGD"])
    model = seeded(MODELS["MLP"])
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    monitor = attach("guard", model, optimizer, clip_norm(0.1))
    losses = train(model, optimizer, batches(STEPS))
    assert monitor.counts.clipped > 0
    assert losses != plain[0]
    assert outcome(model, optimizer) != plain[1]
