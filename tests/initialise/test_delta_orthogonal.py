from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from steadygrad.errors import UsageError
from steadygrad.initialise import delta_orthogonal_


@pytest.mark.parametrize("conv", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
@pytest.mark.parametrize(("fan_in", "fan_out", "groups"), [(4, 4, 1), (3, 8, 1), (4, 8, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_position_keeps_its_length(conv, fan_in, fan_out, groups, dtype):
    layer = conv(fan_in, fan_out, 3, padding=1, groups=groups, dtype=dtype)
    assert delta_orthogonal_(layer, gain=2.0) == ["weight"]
    x = torch.randn(2, fan_in, *[5] * (layer.weight.dim() - 2), dtype=dtype)
    # With groups each part keeps its own length, so the whole does too.
    torch.testing.assert_close(layer(x).norm(dim=1), 2.0 * x.norm(dim=1))


def test_a_very_deep_linear_network_keeps_its_signal_and_gradient():
    model = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(200)))
    delta_orthogonal_(model)
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    out = model(x)
    out.square().sum().backward()
    torch.testing.assert_close(out.norm(), x.norm(), rtol=1e-3, atol=0)
    torch.testing.assert_close(x.grad.norm(), 2 * x.norm(), rtol=1e-3, atol=0)


def test_biases_are_cleared_unless_they_are_to_stay():
    for zero in (True, False):
        layer = nn.Conv2d(2, 4, 3)
        before = layer.bias.detach().clone()
        delta_orthogonal_(layer, zero_bias=zero)
        assert torch.equal(layer.bias, torch.zeros(4) if zero else before)


@pytest.mark.parametrize("gain", [0.0, -1.0, math.nan, math.inf])
def test_a_gain_out_of_range_is_told(gain):
    with pytest.raises(UsageError, match="expected a positive number"):
        delta_orthogonal_(nn.Conv2d(2, 4, 3), gain)


def test_what_can_keep_no_length_is_told_and_nothing_is_changed():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 3))
    before = [param.detach().clone() for param in model.parameters()]
    with pytest.raises(UsageError, match="more inputs than outputs in 1"):
        delta_orthogonal_(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(UsageError, match="no convolution in Linear"):
        delta_orthogonal_(nn.Linear(2, 2))
