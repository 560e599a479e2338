"""A batch whose rows are drawn anew at each step: the loss stays, and the gradient is right in the mean."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from steadygrad.checkup.rehearsal import copied
from steadygrad.checkup.remedies.noise import add_noise

ROWS = 32


def setup(shape=(ROWS, 4)):
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(shape[-1], 1), torch.randn(shape), torch.randn(*shape[:-1], 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return copied(model, optimizer, inputs, lambda out: functional.mse_loss(out, targets))


def grads(one, times):
    found = []
    for _ in range(times):
        one.optimizer.zero_grad()
        one.loss(one.batch, one.loss_fn).backward()
        found.append(one.model.weight.grad.clone())
    return torch.stack(found)


def test_the_loss_stays_and_the_gradient_is_right_in_the_mean():
    one = setup()
    plain, loss = grads(one, 1)[0], float(one.loss(one.batch, one.loss_fn).detach())
    add_noise(one)
    assert float(one.loss(one.batch, one.loss_fn).detach()) == loss
    drawn = grads(one, 400)
    assert torch.allclose(drawn.mean(0), plain, atol=4 * float(drawn.std(0).max()) / math.sqrt(400))


def test_the_noise_is_that_of_a_batch_of_as_many_rows():
    """Against the slow truth: the variance of a mean of as many rows, from the gradient of each row."""
    one = setup()
    rows = []
    for i in range(ROWS):
        one.optimizer.zero_grad()
        out = one.model(one.batch)
        only = torch.zeros_like(out)
        only[i] = 1.0
        held = out.detach()
        one.loss_fn(held + only * (out - held)).backward()
        rows.append(one.model.weight.grad.clone())
    expected = torch.stack(rows).square().sum(0).sqrt()
    add_noise(one)
    assert torch.allclose(grads(one, 600).std(0), expected, rtol=0.2)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_stays_what_it_is(bad):
    one = setup()
    one.batch[3] = bad
    add_noise(one)
    out = one.read[0](one.model(one.batch))
    assert not torch.isfinite(out[3]).any()
    assert torch.isfinite(out[torch.arange(ROWS) != 3]).all()


def test_an_output_without_rows_has_no_noise():
    one = setup()
    add_noise(one)
    loss = torch.tensor(2.0)
    assert one.read[0](loss) is loss


def test_two_trials_are_given_the_same_noise():
    first, second = setup(), setup()
    add_noise(first)
    add_noise(second)
    assert torch.equal(grads(first, 3), grads(second, 3))
