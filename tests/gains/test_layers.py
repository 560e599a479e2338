"""Growth from layer to layer against autograd asked directly."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from steadygrad.gains import measure_gains


def stack(depth=6, width=8, scale=1.0):
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.Tanh()]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for layer in layers[::2]:
            nn.init.orthogonal_(layer.weight, gain=scale)
    return model


def truth(model, batch):
    """Gradient norm with respect to the output of every Linear."""
    outputs = []
    value = batch
    for layer in model:
        value = layer(value)
        if isinstance(layer, nn.Linear):
            outputs.append(value)
    return [float(grad.norm()) for grad in torch.autograd.grad(value.square().mean(), outputs)]


def square(output):
    return output.square().mean()


def test_norms_are_those_of_autograd():
    model, batch = stack(), torch.randn(16, 8)
    gains = measure_gains(model, batch, square)
    assert [layer.grad_norm for layer in gains.layers] == pytest.approx(truth(model, batch), rel=1e-5)
    assert [layer.module for layer in gains.layers] == [str(2 * i) for i in range(6)]
    assert gains.layers[0].growth == pytest.approx(gains.layers[0].grad_norm / gains.layers[1].grad_norm)
    assert gains.total == pytest.approx(gains.layers[0].grad_norm / gains.layers[-1].grad_norm)


@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_linear_layers_give_their_own_factor(scale):
    model = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(12)))
    for layer in model:
        nn.init.orthogonal_(layer.weight, gain=scale)
    gains = measure_gains(model, torch.randn(16, 8), square)
    assert gains.per_layer == pytest.approx(scale, rel=1e-4)
    assert gains.signal_per_layer == pytest.approx(scale, rel=1e-4)
    assert gains.total == pytest.approx(scale**11, rel=1e-3)
    assert gains.stretch.per_layer == pytest.approx(scale, rel=1e-3)


def test_the_stretch_that_carries_it_is_named():
    model = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(30)))
    for i, layer in enumerate(model):
        nn.init.orthogonal_(layer.weight, gain=1.9 if 10 < i <= 20 else 1.0)
    gains = measure_gains(model, torch.randn(16, 8), square)
    assert (gains.stretch.first, gains.stretch.last) == ("10", "20")
    assert gains.stretch.per_layer == pytest.approx(1.9, rel=1e-3)
    assert "x1.9 per layer over layer 10 to layer 20" in str(gains)


def test_a_layer_that_the_loss_doesnt_reach_is_no_part_of_the_chain():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head, self.aside = nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x):
            hidden = self.body(x)
            out = self.head(hidden)
            self.kept = self.aside(hidden)
            return out

    gains = measure_gains(Aside(), torch.randn(8, 4), square)
    assert [layer.module for layer in gains.layers] == ["body", "head"]


def test_a_recomputed_layer_counts_once():
    part = stack(3)

    class Recomputed(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = part

        def forward(self, x):
            return checkpoint(self.part, x, use_reentrant=False)

    batch = torch.randn(8, 8)
    plain, recomputed = measure_gains(part, batch, square), measure_gains(Recomputed(), batch, square)
    assert [layer.grad_norm for layer in recomputed.layers] == [layer.grad_norm for layer in plain.layers]


def test_in_place_activations_are_no_obstacle():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 1))
    assert len(measure_gains(model, torch.randn(8, 4), square).layers) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_numbers_pass(bad):
    batch = torch.randn(8, 8)
    batch[0, 0] = bad
    gains = measure_gains(stack(), batch, square)
    assert str(gains)
    assert gains.per_layer > 0


def test_a_loss_without_a_gradient_leaves_no_chain():
    gains = measure_gains(stack(), torch.randn(8, 8), lambda output: output.detach().mean())
    assert gains.layers == ()
    assert gains.total == gains.per_layer == gains.stretch.factor == 1.0


def test_attention_and_convolutions_are_layers():
    model = nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True)
    assert len(measure_gains(model, torch.randn(4, 5, 16), square).layers) >= 3
    images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    assert [one.module for one in measure_gains(images, torch.randn(2, 3, 8, 8), square).layers] == ["0", "3"]


def test_half_precision_norms_dont_overflow():
    model = nn.Sequential(nn.Linear(64, 4096, dtype=torch.bfloat16), nn.Linear(4096, 1, dtype=torch.bfloat16))
    gains = measure_gains(
        model, torch.ones(8, 64, dtype=torch.bfloat16), lambda out: out.float().sum() * 1e20
    )
    assert all(0 < layer.grad_norm < float("inf") for layer in gains.layers)


def test_the_loss_function_is_free_to_use_the_rows():
    targets = torch.randn(8, 1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    assert measure_gains(model, torch.randn(8, 4), lambda out: functional.mse_loss(out, targets)).total > 0
