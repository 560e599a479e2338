"""What is told from an output and its gradient, against the loss and the labels that made them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from steadygrad.detect.answers import Answers
from steadygrad.measure.answers import NUMBERS, answers, listen


def told(output, loss_fn):
    output = output.detach().requires_grad_()
    loss_fn(output).backward()
    return Answers(*answers(output, output.grad).tolist())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("scale", [1.0, 65536.0, 1e-3])
@pytest.mark.parametrize("shape", [(64, 5), (8, 16, 5), (400, 2), (50, 300)])
def test_a_cross_entropy_is_known_with_its_labels(shape, scale, reduction):
    torch.manual_seed(0)
    output, labels = torch.randn(shape), torch.randint(1, shape[-1], shape[:-1])
    flat = labels.flatten()

    def loss(out):
        return scale * functional.cross_entropy(out.flatten(0, -2), flat, reduction=reduction)

    one = told(output, loss)
    prob = output.flatten(0, -2).double().softmax(1)
    apart = (prob * (prob.log() - prob.mean(0).log())).sum(1).mean()
    assert one.fits == 1.0
    assert one.rows == flat.numel()
    assert one.loss == pytest.approx(float(functional.cross_entropy(output.flatten(0, -2), flat)), rel=1e-4)
    assert one.apart == pytest.approx(float(apart), rel=1e-3)
    assert (one.first, one.last) == (float(flat.min()), float(flat.max()))


def test_the_entropy_of_many_labels():
    torch.manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 20_000, replacement=True)
    one = told(torch.zeros(20_000, 3), lambda out: functional.cross_entropy(out, labels))
    exact = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    assert one.entropy == pytest.approx(exact, rel=0.02)


def test_padding_doesnt_count():
    labels = torch.full((32,), -100)
    labels[:8] = 3
    one = told(torch.randn(32, 5), lambda out: functional.cross_entropy(out, labels))
    assert (one.fits, one.rows, one.first, one.last) == (1.0, 8.0, 3.0, 3.0)


@pytest.mark.parametrize(
    "loss",
    [
        lambda out: functional.cross_entropy(out, torch.arange(32) % 5, label_smoothing=0.2),
        lambda out: functional.multi_margin_loss(out, torch.arange(32) % 5),
        lambda out: functional.mse_loss(out, torch.zeros(32, 5)),
        lambda out: functional.l1_loss(out, torch.zeros(32, 5)),
        lambda out: -out.mean(),
        lambda out: out.sum() * 0.0,
        lambda out: out.sum() * float("nan"),
        lambda out: out.sum() * float("inf"),
    ],
)
def test_other_losses_and_broken_ones_are_none(loss):
    torch.manual_seed(0)
    assert not told(torch.randn(32, 5), loss).fits


@pytest.mark.parametrize("shape", [(32,), (32, 1), (16, 3), (4, 3, 5, 5)])
def test_a_mean_of_squares_is_known_by_its_size(shape):
    torch.manual_seed(0)
    output, targets = torch.zeros(shape), 5.0 * torch.randn(shape) + 2.0
    one = told(output, lambda out: functional.mse_loss(out, targets))
    rows = targets.reshape(len(targets), -1)
    assert one.squares == pytest.approx(float(targets.square().mean()), rel=1e-4)
    assert one.variance == pytest.approx(float((rows - rows.mean(0)).square().mean()), rel=1e-4)
    assert (one.size, one.spread) == (0.0, 0.0)


def test_only_outputs_with_a_gradient_and_enough_numbers_are_listened_to():
    heard = []

    def tell(values, grad):
        heard.append((values, grad))

    listen({"ids": torch.arange(4), "logits": (out := torch.randn(8, 4, requires_grad=True) * 2)}, tell)
    listen(torch.randn(3, requires_grad=True) * 2, tell)
    listen(torch.randn(64), tell)
    listen(None, tell)
    out.sum().backward()
    ((values, grad),) = heard
    assert torch.equal(values, out)
    assert torch.equal(grad, torch.ones(8, 4))
    assert answers(values, grad).shape == (NUMBERS,)
