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


def one_channel(dim):
    return nn.Conv2d(1, 1, 1)(LOGITS[:, None, :, None].expand(4, 1, 3, 2)).softmax(dim)


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
