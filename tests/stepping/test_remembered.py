"""All that an optimizer holds is put back, to the bit and in the same objects."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from tests.monitor.own_steps import OWN, Around, Plain, Remembering
from tests.monitor.workloads import OPTIMIZERS, batches, bits, mlp, outcome, seeded, train
from torch import nn, optim

from steadygrad.stepping.remembered import NotCopied, Remembered


@pytest.mark.parametrize("steps_before", [0, 3])
@pytest.mark.parametrize("name", [*OWN, "AdamW amsgrad", "SGD fused", "RMSprop", "LBFGS"])
def test_weights_and_state_are_put_back(name, steps_before):
    model = seeded(mlp)
    optimizer = {**OPTIMIZERS, **OWN}[name](model.parameters())
    train(model, optimizer, batches(steps_before))
    before = outcome(model, optimizer), list(optimizer.state), torch.get_rng_state().tolist()
    remembered = Remembered(optimizer)
    train(model, optimizer, batches(3, seed=5))
    remembered.put_back()
    assert (outcome(model, optimizer), list(optimizer.state), torch.get_rng_state().tolist()) == before
    train(model, optimizer, batches(1))


def test_attributes_groups_and_containers_are_put_back_and_stay_the_same_objects():
    model = seeded(mlp)
    optimizer = Remembering(model.parameters())
    train(model, optimizer, batches(2))
    objects = optimizer.total, optimizer.history, optimizer.param_groups, optimizer.state, optimizer.late
    before = bits([optimizer.t, optimizer.total, optimizer.history, optimizer.param_groups])
    remembered = Remembered(optimizer)
    train(model, optimizer, batches(2))
    remembered.put_back()
    after = optimizer.total, optimizer.history, optimizer.param_groups, optimizer.state, optimizer.late
    assert all(a is b for a, b in zip(objects, after, strict=True))
    assert bits([optimizer.t, optimizer.total, optimizer.history, optimizer.param_groups]) == before


def test_what_came_with_the_first_step_is_gone_and_what_others_set_stays():
    model = seeded(mlp)
    optimizer = Remembering(model.parameters())
    remembered = Remembered(optimizer)
    train(model, optimizer, batches(1))
    handle = optimizer.register_step_post_hook(lambda *_: None)
    optimizer.somebody = mlp
    remembered.put_back()
    assert not hasattr(optimizer, "late")
    assert "since" not in optimizer.param_groups[0]
    assert not optimizer.state
    assert optimizer.somebody is mlp
    assert handle.id in optimizer._optimizer_step_post_hooks


def test_an_optimizer_that_is_held_is_put_back_with_its_holder():
    model = seeded(mlp)
    optimizer = Around(model.parameters())
    train(model, optimizer, batches(1))
    before = bits(list(optimizer.base.state.values()))
    remembered = Remembered(optimizer)
    train(model, optimizer, batches(1))
    remembered.put_back()
    assert bits(list(optimizer.base.state.values())) == before


def test_tensors_that_were_resized_or_belong_to_inference_mode_are_put_back():
    model = seeded(mlp)
    optimizer = Plain(model.parameters())
    optimizer.grown = torch.ones(2)
    with torch.inference_mode():
        optimizer.inferred = torch.ones(2)
    optimizer.window = deque([torch.ones(1)], maxlen=2)
    remembered = Remembered(optimizer)
    optimizer.grown.resize_(5).zero_()
    with torch.inference_mode():
        optimizer.inferred.zero_()
    optimizer.window.extend([torch.zeros(1), torch.zeros(1)])
    remembered.put_back()
    assert optimizer.grown.tolist() == [1.0, 1.0]
    assert optimizer.inferred.tolist() == [1.0, 1.0]
    assert [one.tolist() for one in optimizer.window] == [[1.0]]
    assert optimizer.window.maxlen == 2


class Opaque:
    def __init__(self):
        self.moments = {"first": [torch.ones(1)]}


@pytest.mark.parametrize("where", ["state", "attribute", "group"])
def test_an_object_that_holds_tensors_is_not_looked_into(where):
    model = seeded(mlp)
    optimizer = Plain(model.parameters())
    if where == "state":
        optimizer.state[model[0].weight]["helper"] = Opaque()
    elif where == "group":
        optimizer.param_groups[0]["helper"] = [Opaque()]
    else:
        optimizer.helper = Opaque()
    with pytest.raises(NotCopied, match="Opaque"):
        Remembered(optimizer)


def test_a_model_that_it_holds_is_none_of_its_memory():
    model = seeded(mlp)
    optimizer = Plain(model.parameters())
    optimizer.model, optimizer.modules = model, [nn.Linear(1, 1), mlp, object()]
    Remembered(optimizer)


def test_without_room_for_two_copies_nothing_is_copied(monkeypatch):
    model = seeded(mlp)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    size = sum(4 * param.numel() for param in model.parameters())
    grads = [torch.ones(10)]
    monkeypatch.setattr("steadygrad.stepping.remembered.free_bytes", lambda _: 2.0 * (size + 40))
    Remembered(optimizer, grads)
    monkeypatch.setattr("steadygrad.stepping.remembered.free_bytes", lambda _: 2.0 * (size + 40) - 1.0)
    with pytest.raises(NotCopied, match="bytes"):
        Remembered(optimizer, grads)
