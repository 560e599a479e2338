"""Gradients of a step that was left out stand until the next backward pass brings others."""

from __future__ import annotations

import copy
import gc
import io
import math
import weakref

import pytest
import torch
from tests.monitor.workloads import attach, batches, loss_of, mlp, poisoned, seeded
from torch import nn, optim

from steadygrad.stepping.left_standing import LeftStanding


def standing(*params):
    for param in params:
        param.grad = torch.full_like(param, math.nan)
    left = LeftStanding()
    left.leave([(param, param.grad) for param in params])
    return left


def param_of(count=2):
    return nn.Parameter(torch.ones(count))


def test_one_that_was_cleared_is_let_go_and_its_hook_goes_with_the_next_backward_pass():
    param = param_of()
    left = standing(param)
    grad = weakref.ref(param.grad)
    param.grad = None
    gc.collect()
    assert grad() is None
    param.sum().backward()
    assert param.grad.tolist() == [1.0, 1.0]
    assert not param._backward_hooks
    assert not left


@pytest.mark.parametrize(
    "change",
    [lambda param: param.grad.fill_(3.0), lambda param: setattr(param, "grad", torch.full((2,), 3.0))],
)
def test_one_that_somebody_has_changed_or_replaced_is_added_to(change):
    param = param_of()
    left = standing(param)
    change(param)
    param.sum().backward()
    assert param.grad.tolist() == [4.0, 4.0]
    assert not left


def test_views_of_one_bucket_are_zeroed_together():
    bucket, params = torch.zeros(4), [param_of(), param_of()]
    for i, param in enumerate(params):
        param.grad = bucket[2 * i : 2 * i + 2]
    bucket.fill_(math.nan)
    left = LeftStanding()
    left.leave([(param, param.grad) for param in params])
    (params[0].sum() + params[1].sum()).backward()
    assert bucket.tolist() == [1.0] * 4


def test_where_no_hook_can_be_hung_they_are_zeroed_at_once():
    fixed = torch.ones(2)
    left = standing(fixed)
    assert fixed.grad.tolist() == [0.0, 0.0]
    assert not left


def test_forgotten_and_closed():
    param = param_of()
    left = standing(param)
    left.forget()
    assert not param._backward_hooks
    assert param.grad.isnan().all()
    left.close()
    left.leave([(param, param.grad)])
    assert not param._backward_hooks
    assert not param.grad.any()


def test_a_hook_that_has_outlived_its_guard_does_nothing():
    param = param_of()
    left = standing(param)
    del left
    gc.collect()
    param.sum().backward()
    assert param.grad.isnan().all()


def test_skips_leave_one_hook_each_and_closing_none():
    model = seeded(mlp)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    guard = attach("guard", model, optimizer)
    for batch in map(poisoned, batches(5)):
        loss_of(model, batch).backward()
        optimizer.step()
    held = [len(param._backward_hooks) for param in model.parameters()]
    optimizer.zero_grad()
    guard.close()
    assert max(held) <= 2  # one is of the check for missing zero_grad
    assert not any(param._backward_hooks for param in model.parameters())


def test_a_model_in_that_state_can_be_copied_and_pickled():
    model = seeded(mlp)
    leaf = torch.ones(2, requires_grad=True)
    left = standing(*model.parameters(), leaf)
    file = io.BytesIO()
    torch.save([model, leaf], file)
    file.seek(0)
    for one in (copy.deepcopy([model, leaf]), torch.load(file, weights_only=False)):
        params = [*one[0].parameters(), one[1]]
        assert not any(param._backward_hooks for param in params)
    assert left


def test_a_second_optimizer_sees_what_the_first_one_has_left_out():
    model = seeded(mlp)
    first, second = optim.SGD(model.parameters(), lr=0.1), optim.AdamW(model.parameters(), weight_decay=0.1)
    guard = attach("guard", model, [first, second])
    for batch in [*batches(2), poisoned(batches(1)[0])]:
        first.zero_grad()
        before = [param.detach().clone() for param in model.parameters()]
        loss_of(model, batch).backward()
        first.step()
        second.step()
    assert guard.counts.skipped == 2
    assert all(map(torch.equal, before, model.parameters()))
    assert second.state[model[0].weight]["step"] == 2


def test_who_never_clears_is_told_so_in_spite_of_a_skip():
    model = seeded(mlp)
    optimizer = optim.SGD(model.parameters(), lr=1e-3)
    guard = attach("guard", model, optimizer)
    for batch in [*batches(2), poisoned(batches(1)[0]), *batches(6)]:
        loss_of(model, batch).backward()
        optimizer.step()
    assert "missing_zero_grad" in {finding.kind for finding in guard.findings}
