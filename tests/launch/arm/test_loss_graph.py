from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from steadygrad.launch.arm.loss_graph import unsuited

LABELS = torch.tensor([0, 1, 2, 0])
LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
SURE = functional.one_hot(LABELS, 3).float()


def under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return functional.cross_entropy(nn.Linear(3, 3)(LOGITS).softmax(1), LABELS)


def one_unit(*rows, bias=True):
    hidden = nn.Linear(3, 3)(torch.ones(*rows, 3))
    return nn.Linear(3, 1, bias=bias)(hidden)


def under_autocast_of_one():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return one_unit(4).softmax(1).mean()


def one_channel(dim):
    return nn.Conv2d(1, 1, 1)(LOGITS[:, None, :, None].expand(4, 1, 3, 2)).softmax(dim)


def of_targets(targets, *, mask=False, **how):
    losses = functional.binary_cross_entropy_with_logits(targets * 0 + LOGITS.mean(), targets, **how)
    return (losses * (targets >= 0)).mean() if mask else losses


def ratings(count):
    return torch.arange(count)[:, None] % 5.0


def one_class_of_counts():
    return torch.cat([torch.arange(64)[:, None] % 2.0, torch.zeros(64, 2), ratings(64)], 1)


def missing():
    return torch.arange(60).reshape(20, 3) % 3.0 - 1


def resized_mask():
    mask = (torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0).float()
    return functional.interpolate(mask, 16, mode="bicubic")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: functional.cross_entropy(LOGITS.softmax(1), LABELS), "double_softmax"),
        (
            lambda: 0.5 * functional.cross_entropy(LOGITS.softmax(1), LABELS, label_smoothing=0.1),
            "double_softmax",
        ),
        (lambda: functional.cross_entropy(LOGITS.softmax(1), SURE), "double_softmax"),
        (
            lambda: functional.cross_entropy(LOGITS.softmax(1)[:, :, None].squeeze(2), LABELS),
            "double_softmax",
        ),
        (under_autocast, "double_softmax"),
        (lambda: functional.cross_entropy(LOGITS.log_softmax(1).exp(), LABELS), "double_softmax"),
        (lambda: functional.cross_entropy(LOGITS.exp(), LABELS), None),
        (lambda: functional.cross_entropy(LOGITS.softmax(1)[[0, 2]], LABELS[[0, 2]]), "double_softmax"),
        (
            lambda: functional.cross_entropy(LOGITS.softmax(1)[LABELS < 2][1:], LABELS[LABELS < 2][1:]),
            "double_softmax",
        ),
        (
            lambda: functional.binary_cross_entropy_with_logits(LOGITS, 4 * SURE + 1),
            "output_range_mismatch",
        ),
        (lambda: functional.binary_cross_entropy_with_logits(LOGITS, 2 * SURE - 1), "output_range_mismatch"),
        (lambda: functional.binary_cross_entropy_with_logits(LOGITS, 0.8 * SURE + 0.1), None),
        (lambda: of_targets(ratings(64)), "output_range_mismatch"),
        (lambda: of_targets(ratings(64), reduction="sum"), "output_range_mismatch"),
        (lambda: of_targets(ratings(64) - 5), "output_range_mismatch"),
        (lambda: of_targets(one_class_of_counts()), "output_range_mismatch"),
        (lambda: of_targets(missing(), reduction="none", mask=True), None),
        (lambda: of_targets(missing(), weight=(missing() >= 0).float()), None),
        (lambda: of_targets(torch.linspace(0.7, 1.2, 64)[:, None]), None),
        (lambda: of_targets(torch.linspace(0.9, 1.2, 4)[:, None]), None),
        (lambda: of_targets(torch.linspace(1.01, 1.2, 8)[:, None]), None),
        (lambda: of_targets(torch.tensor([[0.8], [1.2]]).repeat(8, 1) + 0.05), None),
        (lambda: of_targets(resized_mask()), None),
        (lambda: of_targets((ratings(64) > 2).float() * (1 + 1.2e-7)), None),
        (lambda: of_targets(torch.full((64, 2), float("nan"))), None),
        (lambda: functional.binary_cross_entropy_with_logits(LOGITS[:0], SURE[:0]), None),
        (lambda: functional.cross_entropy(LOGITS[[0, 2]], LABELS[[0, 2]]), None),
        (lambda: functional.binary_cross_entropy_with_logits(LOGITS.sigmoid(), SURE), "double_softmax"),
        (lambda: functional.nll_loss(LOGITS.softmax(1), LABELS), "output_range_mismatch"),
        (lambda: functional.nll_loss(nn.Linear(3, 3)(LOGITS), LABELS), "output_range_mismatch"),
        (lambda: functional.cross_entropy(LOGITS, LABELS), None),
        (lambda: functional.nll_loss(LOGITS.log_softmax(1), LABELS), None),
        (lambda: functional.nll_loss((LOGITS.softmax(1) + 1e-9).log(), LABELS), None),
        (lambda: functional.cross_entropy(LOGITS.log_softmax(1), LABELS), None),
        (lambda: functional.binary_cross_entropy(LOGITS.sigmoid(), SURE), None),
        (lambda: functional.kl_div(LOGITS.log_softmax(1), SURE, reduction="batchmean"), None),
        (lambda: -(LOGITS.softmax(1) * LOGITS.log_softmax(1)).sum(), None),
        (lambda: functional.cross_entropy(nn.Linear(3, 3)(LOGITS.softmax(1)), LABELS), None),
        (lambda: LOGITS, None),
        (
            lambda: functional.mse_loss(nn.Linear(3, 1)(LOGITS).softmax(1)[:, 0], SURE[:, 0]),
            "single_class_softmax",
        ),
        (lambda: functional.cross_entropy(nn.Linear(3, 1)(LOGITS), LABELS * 0), "single_class_softmax"),
        (lambda: one_channel(-3).mean() + one_channel(-3).square().sum(), "single_class_softmax"),
        (lambda: one_channel(-1).mean(), None),
        (lambda: one_unit(2, 3).softmax(-1).mean(), "single_class_softmax"),
        (lambda: one_unit(2, 3, bias=False).softmax(2).mean(), "single_class_softmax"),
        (under_autocast_of_one, "single_class_softmax"),
        (lambda: functional.cross_entropy(one_unit(1).view(1, -1), LABELS[:1]), None),
        (lambda: functional.cross_entropy(one_unit(4).view(4, 1), LABELS * 0), None),
        (lambda: functional.cross_entropy(one_unit(4, 1).squeeze(2), LABELS * 0), None),
        (lambda: functional.cross_entropy(one_unit(1).T, LABELS[:1]), None),
        (
            lambda: functional.cross_entropy(
                one_unit(4).view(2, 2, 1).transpose(1, 2), LABELS.view(2, 2) * 0
            ),
            None,
        ),
        (lambda: one_unit(4, 1).softmax(1).mean(), None),
        (lambda: one_unit(1).softmax(0).mean(), None),
        (lambda: (LOGITS @ (LOGITS.mean(0, keepdim=True)).T).softmax(1).mean(), None),
        (lambda: nn.Linear(3, 1)(LOGITS).log_softmax(-1).mean() + nn.Linear(3, 1)(LOGITS).mean(), None),
        (lambda: nn.Linear(1, 2)(nn.Linear(3, 1)(LOGITS).softmax(-1)).mean(), None),
    ],
)
def test_a_loss_that_is_given_what_it_makes_itself(make, kind):
    found = unsuited(make(), 0)
    assert (found and found.kind) == kind


@pytest.mark.parametrize("roots", [None, (), [None], torch.zeros(()), "loss"])
def test_what_has_no_graph_says_nothing(roots):
    assert unsuited(roots, 0) is None
