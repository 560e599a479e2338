"""What updates can do to a weight's norm, against real trainings and flipped bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.monitor.workloads import MODELS, OPTIMIZERS, attach, batches, mlp, seeded, train

from steadygrad.policies.relative import facts_of
from steadygrad.records import Reading, TensorInfo
from steadygrad.recover import rollback
from steadygrad.recover.keeper import is_concentrated
from steadygrad.recover.weights import WeightWatch


@pytest.mark.parametrize("rate", [1.0, 10.0])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if "strong_wolfe" not in name])
def test_no_update_of_a_real_training_is_suspect(name, rate):
    for make in (MODELS["MLP"], MODELS["CNN"]):
        model = seeded(make)
        optimizer = OPTIMIZERS[name](model.parameters())
        for group in optimizer.param_groups:
            group["lr"] *= rate
        guard = attach("guard", model, optimizer, recover=rollback(every=10))
        watch = WeightWatch(guard._tracks[0].table.tensors)
        found = []

        def look(reading, watch=watch, guard=guard, found=found, optimizer=optimizer):
            facts = facts_of(guard._tracks[0].table.hyper(optimizer.param_groups))
            suspects = watch.suspects(reading, facts.kind, facts.momentum)
            found += [i for i in suspects if is_concentrated(guard._tracks[0].table.params[i])]

        guard._logbook.listeners.append(("look", look))
        train(model, optimizer, batches(60))
        assert "switched off" not in guard.summary()
        assert not found


def reading(step, weights, gradients=(0.1, 0.1)):
    norms = None if weights is None else np.array(weights, np.float32)
    grads = np.array(gradients, np.float32)
    return Reading(step, grads, float(np.linalg.norm(grads)), lr=0.1, param_norms=norms)


TENSORS = [TensorInfo("a", (10, 10)), TensorInfo("b", (10,))]


@pytest.mark.parametrize("kind", ["sgd", "adaptive", "other"])
def test_a_norm_that_jumps_is_suspect(kind):
    watch = WeightWatch(TENSORS)
    assert not len(watch.suspects(reading(0, [5.0, 1.0]), kind, 0.9))
    for step in range(1, 10):
        assert not len(watch.suspects(reading(step, None), kind, 0.9))
    assert watch.suspects(reading(10, [5.1, 5e5]), kind, 0.9).tolist() == [1]


def test_it_is_not_where_the_gradient_was_as_large():
    watch = WeightWatch(TENSORS)
    watch.suspects(reading(0, [5.0, 1.0], (1e4, 1e4)), "sgd", 0.0)
    assert not len(watch.suspects(reading(1, [900.0, 900.0]), "sgd", 0.0))


def test_nothing_is_compared_across_a_rollback():
    watch = WeightWatch(TENSORS)
    watch.suspects(reading(0, [5.0, 1.0]), "sgd", 0.0)
    watch.forget()
    assert not len(watch.suspects(reading(1, [5e9, 1.0]), "sgd", 0.0))


def test_a_flipped_bit_is_concentrated_and_a_healthy_weight_is_not():
    weight = seeded(mlp)[2].weight.detach()
    assert not is_concentrated(weight)
    assert not is_concentrated(1e30 * torch.ones(8, 8))
    small = weight.view(-1).abs().argmin()
    weight.view(-1).view(torch.int32)[small] |= 1 << 30
    assert is_concentrated(weight)
