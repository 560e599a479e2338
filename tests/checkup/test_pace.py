"""Rates that learn nothing, rates of 0, and what half precision rounds away."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import steadygrad as sg
from steadygrad.errors import UsageError


def classifier(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    return model, torch.randn(32, 16), torch.randint(0, 4, (32,))


def checked(optimizer, **options):
    model, inputs, labels = classifier()
    made = optimizer(model.parameters(), **options)
    return sg.check(model, inputs, lambda out: functional.cross_entropy(out, labels), made)


@pytest.mark.parametrize(
    ("optimizer", "lr"), [(torch.optim.SGD, 1e-4), (torch.optim.Adagrad, 1e-4), (torch.optim.Adam, 1e-5)]
)
def test_a_rate_far_too_low_is_told_with_what_a_higher_one_did(optimizer, lr):
    (finding,) = checked(optimizer, lr=lr).findings
    assert (finding.kind, finding.severity) == ("stalled_update", "warning")
    assert finding.causes[0].startswith("The learning rate is 0 or next to it")
    assert finding.remedies[0].action == "Raise the learning rate"
    assert finding.evidence["faster"] < 0.8 * finding.evidence["loss before"]


@pytest.mark.parametrize(("optimizer", "lr"), [(torch.optim.SGD, 0.05), (torch.optim.Adam, 1e-3)])
def test_usual_rates_are_fine(optimizer, lr):
    assert checked(optimizer, lr=lr).ok


def test_a_schedule_that_warms_up_is_waited_for():
    model, inputs, labels = classifier()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-4, total_iters=1000)
    assert sg.check(model, inputs, lambda out: functional.cross_entropy(out, labels), optimizer).ok


def test_a_rate_of_zero_is_named_and_half_precision_is_not():
    (finding,) = checked(torch.optim.SGD, lr=0.0).findings
    assert (finding.kind, finding.severity) == ("stalled_update", "error")
    assert "learning rate of SGD is 0" in finding.summary
    assert "learning rate" in finding.causes[0]
    assert finding.remedies[0].action == "Give the optimizer a rate"


def test_gradients_that_float16_rounds_to_zero_and_a_loss_scale_would_keep():
    model, inputs, labels = classifier()
    model.half()

    def loss(weight):
        return lambda out: weight * functional.cross_entropy(out.float(), labels)

    (finding, *_) = sg.check(model, inputs.half(), loss(1e-7)).findings
    assert (finding.kind, finding.severity) == ("vanishing_gradient", "error")
    assert "underflow" in finding.summary
    assert finding.remedies[0].action == "Scale the loss"
    assert sg.check(model, inputs.half(), loss(1.0)).ok
    # A loss that depends on nothing isn't rescued by any scale.
    told = sg.check(model, inputs.half(), loss(0.0)).findings
    assert not any("underflow" in one.summary for one in told)


def test_inside_of_autocast_the_copy_uses_the_weights_it_has():
    model, inputs, labels = classifier()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trials = sg.check(
            model, inputs, lambda out: functional.cross_entropy(out.float(), labels), optimizer
        ).try_remedies(20)
    as_it_is = next(one for one in trials if one.remedy.action == "Leave it as it is")
    assert as_it_is.loss_after < 0.8 * as_it_is.loss_before


def test_a_complex_loss_has_its_sentence():
    with pytest.raises(UsageError, match=r"complex number \(complex64\).*\.real"):
        sg.check(nn.Linear(3, 2), torch.randn(8, 3), lambda out: torch.view_as_complex(out).mean())


def test_rows_that_point_one_way_are_told_whatever_their_length():
    class Scaled(nn.Module):
        def __init__(self, apart):
            super().__init__()
            self.enter, self.deep, self.leave = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
            self.apart = apart

        def forward(self, x):
            hidden = torch.tanh(self.deep(torch.tanh(self.enter(x))))
            return self.leave((1.0 + self.apart * hidden) * x.norm(dim=1, keepdim=True))

    torch.manual_seed(0)
    inputs, labels = torch.randn(32, 8), torch.randint(0, 3, (32,))
    kinds = [
        [
            one.kind
            for one in sg.check(Scaled(apart), inputs, lambda o: functional.cross_entropy(o, labels)).findings
        ]
        for apart in (1e-3, 1.0)
    ]
    assert kinds == [["vanishing_gradient"], []]


@pytest.mark.parametrize(
    "optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RMSprop]
)
def test_an_epsilon_far_above_the_gradients_is_told_and_not_the_rate(optimizer):
    (finding,) = checked(optimizer, lr=1e-3, eps=3.0).findings
    assert (finding.kind, finding.severity) == ("stalled_update", "warning")
    assert "epsilon 3 is far above the gradients" in finding.summary
    assert finding.causes[0].startswith("The optimizer's epsilon")
    assert '"eps"] = 1e-08' in finding.remedies[0].code


def test_a_large_epsilon_at_the_rate_that_goes_with_it_is_fine():
    assert checked(torch.optim.Adam, lr=1.0, eps=3.0).ok
