"""A healthy run under watch or guard is the same run, to the last bit."""

from __future__ import annotations

import itertools

import pytest
from tests.monitor.workloads import MODELS, OPTIMIZERS, attach, batches, outcome, seeded, train

from steadygrad.policies import auto, clip_norm

STEPS = 10
# Each is one way of being attached; `overhead` is high so that update probes happen in a short run.
WAYS = {
    "watch": ("watch", None, False),
    "watch late": ("watch", None, True),
    "guard auto": ("guard", auto, False),
    "guard auto late": ("guard", auto, True),
    "guard clip_norm": ("guard", lambda: clip_norm(1e9), False),
    "guard clip_norm late": ("guard", lambda: clip_norm(1e9), True),
}


def run(make_model, make_optimizer, way=None):
    model = seeded(make_model)
    optimizer = make_optimizer(model.parameters())
    monitor = None
    if way is not None:
        mode, policy, late = way
        monitor = attach(mode, model, optimizer, policy and policy(), late=late, overhead=1.0)
    losses = train(model, optimizer, batches(STEPS))
    if monitor is not None:
        monitor.close()
        assert monitor.counts.steps == STEPS
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


def test_the_comparison_sees_a_run_that_was_touched():
    plain = run(MODELS["MLP"], OPTIMIZERS["SGD"])
    model = seeded(MODELS["MLP"])
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    monitor = attach("guard", model, optimizer, clip_norm(0.1))
    losses = train(model, optimizer, batches(STEPS))
    assert monitor.counts.clipped > 0
    assert losses != plain[0]
    assert outcome(model, optimizer) != plain[1]
