from __future__ import annotations

import pytest
import torch
from torch import nn

from steadygrad.errors import UsageError
from steadygrad.initialise import zero_residual_


class Block(nn.Module):
    def __init__(self, body, shortcut=None):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return (x if self.shortcut is None else self.shortcut(x)) + self.body(x)


def branch(width=8):
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def normed():
    conv = [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*conv, nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))


def test_residual_blocks_begin_as_their_shortcut():
    model = nn.Sequential(nn.Linear(4, 8), Block(branch()), Block(branch()), nn.Linear(8, 2))
    x = torch.randn(16, 4)
    assert zero_residual_(model, x) == ["1.body.2", "2.body.2"]
    torch.testing.assert_close(model(x), model[3](model[0](x)))


def test_in_a_resnet_it_is_the_last_norm_also_beside_a_convolution_in_the_shortcut():
    stem, head = nn.Conv2d(1, 4, 3, padding=1), nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 3))
    model = nn.Sequential(stem, Block(normed()), Block(normed(), nn.Conv2d(4, 4, 1)), head)
    assert zero_residual_(model, torch.randn(8, 1, 6, 6)) == ["1.body.4", "2.body.4"]


def test_in_a_transformer_it_is_both_projections():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.Sequential(nn.Linear(3, 8), layer, nn.Linear(8, 2))
    assert set(zero_residual_(model, torch.randn(4, 5, 3))) == {"1.self_attn.out_proj", "1.linear2"}


def test_a_plain_network_is_left_alone_with_everything_else():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.BatchNorm1d(8), nn.Linear(8, 1)).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    assert zero_residual_(model, torch.randn(16, 4, generator=torch.Generator().manual_seed(0))) == []
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not model.training
    assert all(param.grad is None for param in model.parameters())


def test_a_batch_that_reaches_nothing_is_told():
    model = nn.Linear(4, 1).requires_grad_(requires_grad=False)
    with pytest.raises(UsageError, match="has a gradient for this batch"):
        zero_residual_(model, torch.randn(2, 4))
