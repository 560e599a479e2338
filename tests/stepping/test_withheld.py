"""Gradients that one step isn't to see, and how they come back."""

from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.own_steps import SAM, Decaying, Noisy, Nulling, Unchecking
from torch import nn, optim

from steadygrad.stepping.left_standing import emptied
from steadygrad.stepping.withheld import Withheld


def adding(params):
    """What a backward pass leaves in ``.grad`` that brings a one everywhere."""
    for param in params:
        param.sum().backward()
    return [param.grad.flatten().tolist() for param in params]


def workload(make, grads=None):
    params = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(1))]
    for param in params[:2]:
        param.grad = torch.full_like(param, math.nan)
    for param, grad in zip(params, grads or (), strict=False):
        param.grad = grad
    return params, make(params, lr=0.1)


def test_only_steps_that_arent_torchs_own_are_undone():
    assert not Withheld(workload(optim.AdamW)[1]).undoes
    assert not Withheld(workload(optim.LBFGS)[1]).undoes
    assert Withheld(workload(Unchecking)[1]).undoes
    assert Withheld(workload(SAM)[1]).undoes


@pytest.mark.parametrize("make", [optim.SGD, Unchecking])
@pytest.mark.parametrize("ended", [True, False])
def test_gradients_come_back_as_they_were_and_are_the_same_tensors(make, ended):
    params, optimizer = workload(make)
    grads = [param.grad for param in params]
    withheld = Withheld(optimizer)
    withheld.take(params)
    assert not any(param.grad is not None and param.grad.isnan().any() for param in params)
    withheld.give_back(ended=ended)
    assert [param.grad for param in params] == grads
    assert all(grad.isnan().all() for grad in grads[:2])
    withheld.give_back(ended=ended)
    assert params[0].grad is grads[0]
    assert grads[0].isnan().all()


@pytest.mark.parametrize("make", [optim.SGD, Unchecking])
def test_the_next_backward_pass_adds_to_none_of_them(make):
    params, optimizer = workload(make)
    withheld = Withheld(optimizer)
    withheld.take(params)
    withheld.give_back(ended=True)
    assert params[0].grad.isnan().all()
    assert adding([params[1]]) == [[1.0] * 4]
    assert params[0].grad.tolist() == [0.0, 0.0, 0.0]
    assert adding([params[1]]) == [[2.0] * 4]
    assert not any(param._backward_hooks for param in params)


@pytest.mark.parametrize("make", [optim.SGD, Unchecking])
def test_a_gradient_that_belongs_to_a_graph_keeps_its_values(make):
    leaf = torch.ones(3, requires_grad=True)
    grad = leaf * math.nan
    params, optimizer = workload(make, [grad])
    withheld = Withheld(optimizer)
    withheld.take(params)
    assert params[0].grad is None  # a step that goes through the graph would raise on any other
    withheld.give_back(ended=True)
    assert params[0].grad is grad
    assert adding([params[0]]) == [[1.0, 1.0, 1.0]]
    assert grad.isnan().all()
    assert grad._version == 0
    assert not params[0].grad.requires_grad


@pytest.mark.parametrize("make", [optim.SGD, Unchecking])
def test_gradients_that_cannot_be_written_are_replaced_when_the_next_come(make):
    with torch.inference_mode():
        inferred = torch.full((3,), math.nan)
    params, optimizer = workload(make, [inferred, torch.full((1, 1), math.nan).expand(2, 2)])
    withheld = Withheld(optimizer)
    withheld.take(params)
    withheld.give_back(ended=True)
    assert all(param.grad.isnan().all() for param in params[:2])
    assert adding(params[:1]) == [[1.0] * 3]
    assert not params[1].grad.any()


class Stubborn(torch.Tensor):
    """A gradient that can't be copied."""

    def clone(self, **_):
        raise RuntimeError("no")


def test_a_gradient_that_cannot_be_copied_is_taken_away_and_the_step_undone():
    params, optimizer = workload(Decaying, [torch.full((3,), math.nan).as_subclass(Stubborn)])
    withheld = Withheld(optimizer)
    withheld.take(params)
    assert all(param.grad is None for param in params)
    optimizer.step()
    withheld.give_back(ended=True)
    assert params[0].tolist() == [1.0, 1.0, 1.0]


def test_a_sparse_gradient_is_emptied():
    grad = torch.eye(3).mul(math.nan).to_sparse()
    assert emptied(grad) is grad
    assert not grad.to_dense().any()


@pytest.mark.parametrize("make", [optim.SGD, Unchecking])
def test_one_gradient_of_two_parameters_comes_back_once_and_whole(make):
    tied = torch.full((3,), math.nan)
    params = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))]
    optimizer = make(params, lr=0.1)
    for ended in (False, True):
        for param in params:
            param.grad = tied
        withheld = Withheld(optimizer)
        withheld.take(params)
        withheld.give_back(ended=ended)
        assert all(param.grad is tied for param in params)
        assert tied.isnan().all()


def test_what_a_step_writes_into_a_gradient_is_gone_and_what_it_has_cleared_stays_so():
    params, optimizer = workload(Noisy)
    params[2].grad = torch.ones(1)
    withheld = Withheld(optimizer)
    withheld.take(params)
    optimizer.step()
    assert params[0].grad.any()
    withheld.give_back(ended=True)
    assert all(param.grad.isnan().all() for param in params[:2])
    assert params[2].grad.tolist() == [1.0]
    assert adding(params) == [[1.0] * 3, [1.0] * 4, [1.0]]
    params, optimizer = workload(Nulling)
    withheld = Withheld(optimizer)
    withheld.take(params)
    optimizer.step()
    withheld.give_back(ended=True)
    assert all(param.grad is None for param in params)


def test_gradients_of_a_backward_after_a_step_that_raised_are_kept():
    params, optimizer = workload(Unchecking)
    withheld = Withheld(optimizer)
    withheld.take(params)
    optimizer.zero_grad(set_to_none=False)
    params[0].sum().backward()
    withheld.give_back(ended=False)
    assert params[0].grad.tolist() == [1.0, 1.0, 1.0]


def test_if_zeroing_fails_half_way_it_is_undone_before_they_are_taken_away(monkeypatch):
    params, optimizer = workload(Unchecking)
    grads = [param.grad for param in params]

    def failing(grad):
        if grad is grads[1]:
            raise RuntimeError("no")
        return emptied(grad)

    monkeypatch.setattr("steadygrad.stepping.withheld.emptied", failing)
    withheld = Withheld(optimizer)
    withheld.take(params)
    assert all(param.grad is None for param in params)
    assert grads[0].isnan().all()
    withheld.give_back(ended=False)
    assert [param.grad for param in params] == grads


@pytest.mark.parametrize("numbers", [[1e38] * 3, [1.0, math.inf, 1.0], [1.0, math.nan, 1.0], [0.0] * 3])
def test_whether_what_stands_there_is_poisoned_is_asked_of_one_norm_and_answered_exactly(numbers):
    _, optimizer = workload(SAM, [torch.tensor(numbers), torch.full((2, 2), 3e38)])
    assert Withheld(optimizer).begins(lambda: None) != all(map(math.isfinite, numbers))


class TestClosures:
    """A step that is handed a closure is undone from its first evaluation on, if nothing has moved before it."""

    def began(self, make=Unchecking):
        params, self.optimizer = workload(make, [torch.ones(3), torch.ones(2, 2)])
        withheld = Withheld(self.optimizer)
        assert not withheld.begins(lambda: None)
        params[0].grad.fill_(math.nan)
        return params, withheld

    def test_nothing_has_moved(self):
        params, withheld = self.began()
        withheld.evaluates(0)
        withheld.take(params)
        assert not params[0].grad.any()
        withheld.give_back(ended=True)

    @pytest.mark.parametrize("evaluations", [1, 2])
    def test_something_has(self, evaluations):
        params, withheld = self.began()
        for evaluation in range(evaluations):
            if evaluation == evaluations - 1:
                with torch.no_grad():
                    params[1].add_(1.0)
            withheld.evaluates(evaluation)
        withheld.take(params)
        assert params[0].grad is None
        withheld.give_back(ended=True)
        assert params[1].tolist() == [[2.0, 2.0]] * 2

    def test_what_the_closure_does_to_the_weights_itself_stays(self):
        params, withheld = self.began()
        withheld.evaluates(0)
        with torch.no_grad():
            params[1].clamp_(0.0, 0.5)
        params[2].grad = torch.ones(1)
        withheld.take(params)
        assert not params[0].grad.any()
        self.optimizer.step()
        withheld.give_back(ended=True)
        assert params[1].tolist() == [[0.5, 0.5]] * 2
        params[0].grad.fill_(math.nan)
        assert not withheld.begins(lambda: None)  # and is no reason to look at the gradients from now on

    def test_a_step_without_one_is_undone_again(self):
        params, withheld = self.began()
        withheld.evaluates(1)
        withheld.begins(None)
        withheld.take(params)
        assert params[0].grad is not None

    def test_one_that_begins_poisoned_and_makes_other_gradients_is_a_step_like_any_other(self):
        params, optimizer = workload(SAM)
        withheld = Withheld(optimizer)
        assert withheld.begins(lambda: None)
        with torch.no_grad():
            params[0].add_(1.0)
        withheld.evaluates(0)
        withheld.give_back(ended=True)
        assert params[0].tolist() == [2.0, 2.0, 2.0]
