"""Rows that are held out, against the loss of these rows alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from steadygrad.checkup.look import look
from steadygrad.checkup.reach import best_constant
from steadygrad.checkup.rehearsal import copied
from steadygrad.checkup.remedies.held import PART, hold_out

ROWS = 32
LOSSES = {
    "squared": (functional.mse_loss, lambda: torch.randn(ROWS, 3)),
    "summed": (lambda out, y: functional.mse_loss(out, y, reduction="sum"), lambda: torch.randn(ROWS, 3)),
    "classes": (functional.cross_entropy, lambda: torch.randint(0, 3, (ROWS,))),
}


def held_out(loss, targets, rows=ROWS):
    torch.manual_seed(0)
    model, inputs = nn.Linear(5, 3), torch.randn(rows, 5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    seen = look(model, inputs, lambda out: loss(out, targets), optimizer)
    guess = best_constant(seen.loss_at, seen.output_tensor)
    return copied(model, optimizer, inputs, seen.loss_fn), hold_out(seen, guess), guess


@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_is_that_of_the_rows_that_are_learnt_from_and_the_share_that_of_the_others(kind):
    loss, make = LOSSES[kind]
    targets = make()
    setup, held, guess = held_out(loss, targets)
    assert int(held.rows.sum()) == ROWS // PART
    shares: list[float] = []
    held.listen(setup, shares)
    found = setup.loss(setup.batch, setup.loss_fn)
    found.backward()
    out = setup.model(setup.batch).detach()
    size = {"summed": ROWS / (ROWS - ROWS // PART)}.get(kind, 1.0)
    assert float(found.detach()) == pytest.approx(
        float(size * loss(out[~held.rows], targets[~held.rows])), rel=1e-3
    )
    constant = guess.at.expand(out.shape)
    alone, guessed = (float(loss(one[held.rows], targets[held.rows])) for one in (out, constant))
    assert shares == [pytest.approx(alone / guessed, rel=1e-2)]
    assert held.guess == pytest.approx(
        float(size * loss(constant[~held.rows], targets[~held.rows])), rel=1e-3
    )


def test_nothing_is_learnt_from_a_row_that_is_held_out():
    targets = torch.randn(ROWS, 3)
    setup, held, _ = held_out(functional.mse_loss, targets)
    held.listen(setup, [])
    inputs = setup.batch.clone().requires_grad_()
    setup.loss(inputs, setup.loss_fn).backward()
    assert torch.equal(inputs.grad.abs().sum(1) == 0, held.rows)


def contrast(out, y):
    return functional.cross_entropy(out @ out.T / 0.1, torch.arange(len(out))) + 0 * y.sum()


@pytest.mark.parametrize(
    ("loss", "rows"),
    [
        (contrast, ROWS),
        (functional.mse_loss, 6),
        (lambda out, y: (out - y).mean(), ROWS),
        (lambda out, y: functional.mse_loss(out, y) * math.nan, ROWS),
        (lambda out, y: functional.mse_loss(out, y) * math.inf, ROWS),
    ],
    ids=["not a sum over rows", "too few rows", "no lowest loss", "nan", "inf"],
)
def test_a_loss_that_says_nothing_of_a_part_holds_nothing_out(loss, rows):
    assert held_out(loss, torch.randn(rows, 3), rows)[1] is None


def test_a_row_that_is_not_finite_makes_a_loss_that_is_not():
    setup, held, _ = held_out(functional.mse_loss, torch.randn(ROWS, 3))
    setup.batch[~held.rows] = math.inf
    shares: list[float] = []
    held.listen(setup, shares)
    assert not torch.isfinite(setup.loss(setup.batch, setup.loss_fn))
    assert math.isfinite(shares[0])
