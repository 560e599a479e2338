from __future__ import annotations

import pytest
import torch

from steadygrad.launch.arm.kept import Kept


def proved(clear=None, every=1, passes=12):
    """A loop that makes a step every so many passes, and clears its gradients in some way after it."""
    weight, bias = torch.ones(4, requires_grad=True), torch.ones(2, requires_grad=True)
    kept = Kept([weight, bias])
    for number in range(1, passes + 1):
        (weight.square().sum() + bias.square().sum()).backward()
        if number % every:
            continue
        with torch.no_grad():
            for param in (weight, bias):
                param.sub_(param.grad, alpha=0.01)
                if clear is not None:
                    clear(param)
    return kept.proved


def drop(param):
    param.grad = None


def test_gradients_that_are_never_cleared_are_proved():
    assert proved()


@pytest.mark.parametrize("clear", [drop, lambda param: param.grad.zero_()])
@pytest.mark.parametrize("every", [1, 2, 6])
def test_gradients_that_are_gathered_and_cleared_are_not(clear, every):
    assert not proved(clear, every)


def test_a_hook_is_gone_once_it_is_known():
    weight = torch.ones(4, requires_grad=True)
    Kept([weight]).close()
    assert not weight._backward_hooks
    assert not Kept([]).proved
