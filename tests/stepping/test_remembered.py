"""All that an optimizer holds is put back, to the bit and in the same objects."""

from __future__ import annotations

import random
import weakref
from collections import deque
from functools import partial

import numpy as np
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


def test_arrays_and_generators_are_put_back():
    optimizer = Plain(seeded(mlp).parameters())
    optimizer.array, optimizer.generator = np.arange(3.0), torch.Generator().manual_seed(3)
    array, generator = optimizer.array, optimizer.generator
    optimizer.param_groups[0]["arrays"] = [inner := np.zeros((2, 2))]
    optimizer.fixed = np.zeros(2)
    optimizer.fixed.flags.writeable = False
    state = generator.get_state()
    remembered = Remembered(optimizer)
    array += 1.0
    inner[0] = np.nan
    torch.randn(5, generator=generator)
    optimizer.array, optimizer.generator = array * 2.0, torch.Generator()
    remembered.put_back()
    assert optimizer.array is array
    assert array.tolist() == [0.0, 1.0, 2.0]
    assert inner.tolist() == [[0.0, 0.0]] * 2
    assert optimizer.generator is generator
    assert torch.equal(generator.get_state(), state)


def test_what_a_function_closes_over_is_put_back():
    optimizer = Plain(seeded(mlp).parameters())
    moments, count, late = {}, 0, None

    def update(param, history=[]):  # noqa: B006 - such things are written
        nonlocal count, late
        count, late = count + 1, torch.ones(1)
        moments.setdefault(param, torch.zeros(1)).add_(1.0)
        history.append(count)
        return count, moments, late, history

    optimizer.update = partial(update, 1)
    update(1)
    remembered = Remembered(optimizer)
    update(1)
    update(2)
    remembered.put_back()
    assert (count, list(moments), moments[1].item(), late.item()) == (1, [1], 1.0, 1.0)
    assert update(1)[3] == [1, 2]


class Slotted:
    __slots__ = ("__weakref__", "count", "held")

    def __init__(self, held=None):
        self.count, self.held = 0, held


class Counting:
    def __init__(self):
        self.count = 0


def test_numbers_in_other_objects_are_put_back():
    optimizer = Plain(seeded(mlp).parameters())
    optimizer.slotted, optimizer.counting = Slotted(), Counting()
    remembered = Remembered(optimizer)
    optimizer.slotted.count = optimizer.counting.count = 3
    reference = weakref.ref(optimizer.slotted)
    remembered.put_back()
    assert reference().count == optimizer.counting.count == 0


@pytest.mark.parametrize("held", [torch.ones(1), np.ones(1), [torch.Generator()], random.Random(1)])
def test_slots_are_looked_into(held):
    optimizer = Plain(seeded(mlp).parameters())
    optimizer.helper = Slotted(held)
    with pytest.raises(NotCopied, match="Slotted"):
        Remembered(optimizer)


@pytest.mark.parametrize("held", [np.random.default_rng(1), random.Random(1), np.array([object()])])
def test_generators_and_arrays_of_other_kinds_are_refused(held):
    optimizer = Plain(seeded(mlp).parameters())
    optimizer.held = held
    with pytest.raises(NotCopied):
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
