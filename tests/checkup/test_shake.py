from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from steadygrad.checkup.rehearsal import copied, shake


class Product(nn.Module):
    """Two weights of 10 whose product fits the batch to the last bit; its curvature is 200."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor(10.0))
        self.second = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return self.first * self.second * x


INPUTS = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])


def loss(output):
    return functional.mse_loss(output, 100 * INPUTS)


def shaken(lr, batch=INPUTS, loss_fn=loss):
    model = Product()
    setup = copied(model, torch.optim.SGD(model.parameters(), lr), batch, loss_fn)
    assert float(setup.step(batch, loss_fn, 0)) == 0.0
    return shake(setup, 8), model


def test_a_rate_that_only_lasts_while_nothing_is_to_be_learnt_is_found_out():
    grown, _ = shaken(0.1)
    assert not all(map(math.isfinite, grown))


def test_a_rate_that_bears_other_targets_is_left_in_peace():
    grown, model = shaken(1e-4)
    assert len(grown) == 16
    assert max(grown) <= 1.0
    assert model.first.item() == 10.0


@pytest.mark.parametrize("kind", [dict, tuple])
def test_rows_are_mixed_in_whatever_holds_them(kind):
    model = Product()
    batch = {"x": INPUTS} if kind is dict else (INPUTS,)
    setup = copied(model, torch.optim.SGD(model.parameters(), 1e-4), batch, loss)
    grown = shake(setup, 4)
    assert grown[0] == 1.0
    assert min(grown) < 1.0
