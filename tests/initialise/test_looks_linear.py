from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from steadygrad.errors import UsageError
from steadygrad.initialise import looks_linear_


def plain(activation, width=32, depth=30, inputs=16, outputs=4):
    hidden = [part for _ in range(depth) for part in (activation(), nn.Linear(width, width))]
    return nn.Sequential(nn.Linear(inputs, width), *hidden, activation(), nn.Linear(width, outputs))


def gains(model, x):
    """Singular values of the map from one input to its output."""
    return torch.linalg.svdvals(torch.autograd.functional.jacobian(model, x).detach())


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Softplus, lambda: nn.ReLU(inplace=True)]
)
def test_a_deep_plain_network_begins_linear_and_keeps_every_direction(activation):
    model, x = plain(activation), torch.randn(64, 16)
    assert len(looks_linear_(model, x)) == 31
    found = gains(model, x[0])
    assert float(found.max() / found.min()) < 1.001
    middle = model((x[:1] + x[1:2]) / 2)
    torch.testing.assert_close(middle, (model(x[:1]) + model(x[1:2])) / 2, rtol=1e-3, atol=1e-3)
    assert float(model(x).detach().std()) == pytest.approx(1.0, abs=0.1)


def test_without_it_the_same_network_loses_directions():
    model, x = plain(nn.ReLU), torch.randn(64, 16)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    found = gains(model, x[0])
    assert float(found.max() / found.min()) > 10


@pytest.mark.parametrize("width", [4, 5])
def test_a_unit_without_a_partner_is_left_to_itself(width):
    model, x = plain(nn.ReLU, width=width, depth=3, inputs=2, outputs=2), torch.randn(64, 2)
    assert looks_linear_(model, x) == ["0", "2", "4", "6"]
    found = gains(model, x[0])
    assert float(found.max() / found.min()) < 1.001


def test_convolutions_a_pool_and_a_head_after_the_flattening():
    layers = [part for _ in range(20) for part in (nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1))]
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), *layers, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(108, 5)
    )
    x = torch.randn(32, 3, 6, 6)
    assert len(looks_linear_(model, x)) == 21
    middle = model((x[:1] + x[1:2]) / 2)
    torch.testing.assert_close(middle, (model(x[:1]) + model(x[1:2])) / 2, rtol=1e-3, atol=1e-3)


def test_activations_that_are_functions_are_found_and_layers_called_twice_stay_whole():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.inner, self.leave = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)

        def forward(self, x):
            hidden = functional.relu(self.enter(x))
            for _ in range(2):
                hidden = functional.relu(self.inner(hidden))
            return self.leave(hidden)

    model = Twice()
    assert looks_linear_(model, torch.randn(32, 4)) == ["enter", "inner"]
    assert all(torch.isfinite(param).all() for param in model.parameters())


def test_a_frozen_layer_and_what_two_paths_lead_to_are_not_mirrored():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return torch.relu(x + self.last(torch.relu(self.first(x))))

    model, x = (
        nn.Sequential(nn.Linear(8, 8), Block(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)),
        torch.randn(32, 8),
    )
    model[4].requires_grad_(False)
    kept = model[4].weight.clone()
    assert looks_linear_(model, x) == ["1.first"]
    assert torch.equal(model[4].weight, kept)


class Permuted(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class MeanOfUnits(nn.Module):
    def forward(self, x):
        return x.mean(1).flatten(1)


RELU, POOL = nn.ReLU(), nn.MaxPool2d(3, 1, padding=1)
NOT_LINEAR = {
    "two activations": [RELU, nn.Tanh()],
    "two rectified ones": [RELU, nn.LeakyReLU()],
    "sigmoid": [RELU, nn.Sigmoid()],
    "softmax": [RELU, nn.Softmax(1)],
    "tanh before": [nn.Tanh(), RELU],
    "normalised after": [RELU, nn.BatchNorm2d(4)],
    "group norm": [nn.GroupNorm(1, 4), RELU],
    "max-pool": [RELU, POOL],
    "max-pool before": [POOL, RELU],
    "permute": [RELU, Permuted()],
    "mean over units": [RELU, MeanOfUnits()],
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_layers_between_which_nothing_begins_linear_are_not_mirrored(name):
    between = NOT_LINEAR[name]
    flat = isinstance(between[-1], (Permuted, MeanOfUnits))
    columns = 16 if isinstance(between[-1], MeanOfUnits) else 64
    after = [nn.Linear(columns, 8)] if flat else [nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(64, 8)]
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *between, *after, nn.ReLU(), nn.Linear(8, 1))
    x = torch.randn(64, 1, 4, 4)
    assert looks_linear_(model, x) == [str(len(model) - 3)]
    assert torch.isfinite(model(x)).all()


class Steps(nn.Module):
    """One vector a step, then all of them in one row."""

    def __init__(self):
        super().__init__()
        self.each, self.all, self.last = nn.Linear(2, 4), nn.Linear(12, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.last(torch.relu(self.all(torch.relu(self.each(x)).flatten(1))))


def test_units_that_a_flattening_puts_beside_those_of_other_steps_are_not_mirrored():
    assert looks_linear_(Steps(), torch.randn(64, 3, 2)) == ["all"]


LINEAR = {
    "average pool": [RELU, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 8)],
    "global average": [RELU, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8)],
    "adaptive average": [RELU, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 8)],
    "BatchNorm and dropout": [
        nn.BatchNorm2d(4),
        RELU,
        nn.Dropout(),
        nn.Dropout2d(),
        nn.Flatten(),
        nn.Linear(64, 8),
    ],
}


@pytest.mark.parametrize("name", LINEAR)
def test_what_may_stand_between_mirrored_layers_leaves_the_network_linear(name):
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *LINEAR[name], nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(64, 1, 4, 4)
    assert looks_linear_(model, x) == ["0", str(len(model) - 3)]
    model.eval()
    middle = model((x[:1] + x[1:2]) / 2)
    torch.testing.assert_close(middle, (model(x[:1]) + model(x[1:2])) / 2, rtol=1e-3, atol=1e-3)


def test_what_is_not_the_weights_stays():
    model, x = (
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1)),
        torch.randn(32, 4),
    )
    model.eval()
    before = {name: one.clone() for name, one in model.named_buffers()}
    assert looks_linear_(model, x) == ["0"]
    assert not model.training
    assert all(torch.equal(one, before[name]) for name, one in model.named_buffers())
    assert all(param.grad is None for param in model.parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_batch_that_is_not_finite_leaves_finite_weights(bad):
    model, x = plain(nn.ReLU, depth=2), torch.randn(32, 16)
    x[0, 0] = bad
    looks_linear_(model, x)
    assert all(torch.isfinite(param).all() for param in model.parameters())


def test_half_precision():
    model = plain(nn.ReLU, depth=4).bfloat16()
    looks_linear_(model, torch.randn(64, 16, dtype=torch.bfloat16))
    assert model[2].weight.dtype == torch.bfloat16
    assert torch.equal(model[2].weight[:16], -model[2].weight[16:])


def test_wrong_use_is_told():
    with pytest.raises(UsageError, match="expected a torch"):
        looks_linear_("model", torch.randn(2, 2))
    with pytest.raises(UsageError, match="no two linear or convolutional layers of Sequential"):
        looks_linear_(nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(8, 2))
