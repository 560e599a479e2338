"""The norm of one rank's own gradients is that of this step alone, whatever became of the steps before."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from steadygrad.containment import Containment
from steadygrad.ranks import LocalNorms


def made(late=False):
    params = [nn.Parameter(torch.ones(3)) for _ in range(4)]
    told = []
    return params, LocalNorms(params, late=late, containment=Containment(told.append)), told


def backward(params, factor=1.0):
    (sum(param.sum() for param in params) * factor).backward()


def cleared(params, to_none):
    torch.optim.SGD(params, lr=0.1).zero_grad(set_to_none=to_none)


ONE = math.sqrt(12.0)
both = pytest.mark.parametrize("late", [False, True])


@both
def test_micro_batches_are_added_up(late):
    params, local, _ = made(late)
    for _ in range(2):
        for to_none in (True, False):
            backward(params, 1.0)
            backward(params, 2.0)
            assert float(local.take()) == pytest.approx(3.0 * ONE)
            assert local.take() is None
            cleared(params, to_none)


@both
@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("ill", [math.inf, math.nan, 5.0])
def test_a_step_that_was_left_out_is_forgotten(late, to_none, ill):
    """A ``GradScaler`` doesn't call the optimizer whose gradients overflow, so nobody takes the norm of that step."""
    params, local, _ = made(late)
    backward(params, ill)
    cleared(params, to_none)
    backward(params)
    assert float(local.take()) == pytest.approx(ONE)


def test_what_a_left_out_step_has_used_and_the_next_has_not_is_forgotten():
    params, local, _ = made()
    backward(params, math.inf)
    cleared(params, to_none=True)
    backward(params[:2])
    assert local.take() == pytest.approx(math.sqrt(6.0))


@both
def test_a_nan_is_told_and_gone_at_the_next_step(late):
    params, local, _ = made(late)
    for ill in (math.nan, math.inf):
        backward(params, ill)
        assert not math.isfinite(float(local.take()))
        cleared(params, to_none=True)
        backward(params)
        assert float(local.take()) == pytest.approx(ONE)
        cleared(params, to_none=True)


def batched(param):
    torch.autograd.grad(param * param, param, torch.eye(3), is_grads_batched=True)


@both
def test_a_gradient_that_no_parameter_has_kept_is_none_of_the_step(late):
    """``torch.autograd.grad`` calls the hooks too, for a penalty say."""
    params, local, told = made(late)
    batched(params[1])
    backward(params[2:])
    assert float(local.take()) == pytest.approx(math.sqrt(6.0))
    assert not told


@both
def test_what_is_kept_is_the_gradient_before_anybody_changes_it(late):
    """DDP writes the mean over the ranks into the gradient that the parameter holds, and a script its clip."""
    params, local, _ = made(late)
    backward(params)
    for param in params:
        param.grad.mul_(100.0)
    assert float(local.take()) == pytest.approx(ONE)


def test_a_gradient_that_cannot_be_added_ends_it_and_is_said_once():
    params, local, told = made()
    backward(params[:2], math.nan)
    batched(params[1])
    backward(params[2:])
    assert local.take() is None  # a part of a norm is none
    for _ in range(2):
        backward(params)
        assert local.take() is None
    assert len(told) == 1
    assert "local gradient norm" in told[0]
    assert not any(param._backward_hooks for param in params)
