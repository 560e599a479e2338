from __future__ import annotations

import pytest
import torch

from steadygrad.tracing.capture import _hook_onto


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_a_hook_of_ours_sees_what_a_registered_one_sees(order):
    weight = torch.randn(3, requires_grad=True)
    output, ours, theirs = weight * 2.0, [], []
    calls = [lambda: _hook_onto(output, ours.append), lambda: output.register_hook(theirs.append)]
    for call in calls if order == "ours first" else reversed(calls):
        call()
    output.square().sum().backward()
    assert torch.equal(ours[0], theirs[0])
    assert len(ours) == len(theirs) == 1


def test_two_on_one_tensor_and_one_on_a_leaf():
    leaf = torch.randn(3, requires_grad=True)
    seen = []
    _hook_onto(leaf, seen.append)
    _hook_onto(leaf, seen.append)
    (leaf * 3.0).sum().backward()
    assert [one.tolist() for one in seen] == [[3.0] * 3] * 2


def test_a_hook_of_theirs_can_still_be_taken_off():
    weight = torch.randn(3, requires_grad=True)
    output, ours, theirs = weight * 2.0, [], []
    _hook_onto(output, ours.append)
    output.register_hook(theirs.append).remove()
    output.sum().backward()
    assert len(ours) == 1
    assert not theirs
