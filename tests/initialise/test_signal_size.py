from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygrad.errors import UsageError
from steadygrad.initialise import delta_orthogonal_, lsuv_, orthogonal_, zero_residual_


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU])
def test_every_layer_has_mean_0_and_spread_1(act):
    layers = [layer for _ in range(20) for layer in (nn.Linear(16, 16), act())]
    model, batch = nn.Sequential(*layers), torch.randn(256, 16)
    lsuv_(model, batch)
    value = batch
    for layer in model.requires_grad_(requires_grad=False):
        value = layer(value)
        if isinstance(layer, nn.Linear):
            assert float(value.std()) == pytest.approx(1.0, rel=0.02)
            assert float(value.mean(0).abs().max()) < 1e-3


def test_convolutions_without_a_bias_are_scaled_only():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3))
    lsuv_(model, torch.rand(8, 3, 12, 12))
    assert model(torch.rand(8, 3, 12, 12)).std().item() == pytest.approx(1.0, rel=0.2)


def test_frozen_layers_buffers_and_random_states_stay():
    model = nn.Sequential(
        nn.Linear(4, 8).requires_grad_(requires_grad=False), nn.BatchNorm1d(8), nn.Linear(8, 2)
    )
    batch = torch.randn(32, 4)
    frozen, mean, state = model[0].weight.clone(), model[1].running_mean.clone(), torch.get_rng_state()
    lsuv_(model, batch)
    assert torch.equal(model[0].weight, frozen)
    assert torch.equal(model[1].running_mean, mean)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_a_batch_that_says_nothing_leaves_finite_weights(bad):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    lsuv_(model, torch.full((8, 4), bad))
    assert all(torch.isfinite(param).all() for param in model.parameters())


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_each_gate_is_orthogonal(kind):
    model = kind(6, 8)
    orthogonal_(model)
    for block in model.weight_hh_l0.chunk(model.weight_hh_l0.shape[0] // 8):
        assert torch.allclose(block @ block.T, torch.eye(8), atol=1e-5)


def test_the_gain_is_what_a_matrix_multiplies_by():
    model = nn.Linear(8, 8)
    orthogonal_(model, 1.5)
    vector = torch.randn(8)
    assert ((model.weight @ vector).norm() / vector.norm()).item() == pytest.approx(1.5, rel=1e-5)


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan"), float("inf")])
def test_a_gain_out_of_range_is_told(gain):
    with pytest.raises(UsageError, match="expected a positive number"):
        orthogonal_(nn.Linear(2, 2), gain)


def test_a_model_without_layers_is_told():
    with pytest.raises(UsageError, match="found no linear"):
        orthogonal_(nn.BatchNorm1d(3))
    with pytest.raises(UsageError, match="no linear or convolutional layer was called"):
        lsuv_(nn.Embedding(3, 3), torch.tensor([1]))


class Twice(nn.Module):
    """Two layers of one weight, and one that a lookup table shares."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
        self.first, self.again = nn.Linear(16, 16), nn.Linear(16, 16)
        self.again.weight, self.head.weight = self.first.weight, self.table.weight

    def forward(self, tokens):
        return self.head(self.again(torch.relu(self.first(self.table(tokens)))))


def test_a_shared_weight_suits_the_first_that_is_called():
    torch.manual_seed(0)
    model, tokens = Twice(), torch.arange(50)
    table = model.table.weight.clone()
    lsuv_(model, tokens)
    assert torch.equal(model.table.weight, table)
    assert model.first(model.table(tokens)).std().item() == pytest.approx(1.0, rel=0.02)


def test_a_layer_whose_weight_is_computed_is_left_alone():
    computed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
    model, batch = nn.Sequential(computed, nn.Linear(8, 8)), torch.randn(64, 8)
    before = [param.clone() for param in computed.parameters()]
    lsuv_(model, batch)
    orthogonal_(model)
    assert all(torch.equal(one, two) for one, two in zip(computed.parameters(), before, strict=True))


@pytest.mark.parametrize(
    "call",
    [
        lambda: lsuv_("model", torch.zeros(1)),
        lambda: orthogonal_("model"),
        lambda: delta_orthogonal_("model"),
        lambda: zero_residual_("model", torch.zeros(1)),
    ],
)
def test_what_is_no_module_is_told(call):
    with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module, got str"):
        call()


@pytest.mark.parametrize("start", [orthogonal_, delta_orthogonal_])
@pytest.mark.parametrize("gain", ["a", None, True])
def test_a_gain_that_is_no_number_is_told(start, gain):
    with pytest.raises(UsageError, match="expected a positive number, got"):
        start(nn.Conv1d(2, 2, 3), gain)
