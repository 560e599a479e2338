"""A script that has died of a NaN is told where that came from; of anything else, nothing is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Distribution, Normal
from torch.nn import functional

import steadygrad as sg
from steadygrad.refusal import is_refusal

NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def distributions_check(monkeypatch):
    """The first `torch.compile` of a process, in whatever test, switches their checks off for good."""
    monkeypatch.setattr(Distribution, "_validate_args", True)


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 4)

    def forward(self, x, allowed):
        return self.net(x).masked_fill(~allowed, -INF)


def own_check():
    raise AssertionError("loss is NaN, stopping")


def raised_by(code):
    with pytest.raises(Exception) as caught:
        code()
    return caught.value


REFUSALS = [
    lambda: Categorical(logits=torch.full((2, 3), NAN)),
    lambda: Normal(torch.tensor([NAN]), torch.ones(1)),
    lambda: functional.binary_cross_entropy(torch.full((2,), NAN), torch.ones(2)),
    lambda: nn.BCELoss()(torch.full((2,), NAN), torch.ones(2)),
    lambda: torch.multinomial(torch.full((2, 3), NAN), 1),
    own_check,
]
OTHERS = [
    lambda: Path("/nonexistent/file").read_text(),
    lambda: torch.ones(2)[3],
    lambda: {}["mask"],
    lambda: torch.ones(2, 3) @ torch.ones(2, 3),
    lambda: nn.Linear(2, 3)(torch.ones(4, 5)),
    lambda: int("information"),
]


@pytest.mark.parametrize("code", REFUSALS)
def test_what_refuses_a_nan(code):
    assert is_refusal(raised_by(code))


@pytest.mark.parametrize("code", OTHERS)
def test_what_has_nothing_to_do_with_one(code):
    assert not is_refusal(raised_by(code))


def findings(monkeypatch, died_of, *, value=1.0, before=None):
    """Of a policy with a mask, whose newest call comes to no step."""
    if before is not None:
        monkeypatch.setattr(sys, "last_value", before, raising=False)
    torch.manual_seed(0)
    model = Policy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = sg.watch(model, optimizer)
    allowed = torch.tensor([[True, True, False, False]]).expand(5, 4)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 3), allowed)[:, :2].square().mean().backward()
        optimizer.step()
    x = torch.randn(5, 3)
    x[2] = value
    # Held, as by the variables of a script.
    output = model(x, allowed)
    if died_of is not None:
        monkeypatch.setattr(sys, "last_value", died_of, raising=False)
    monitor.close()
    del output
    return [(one.kind, one.step) for one in monitor.findings]


def test_a_nan_that_a_distribution_has_refused(monkeypatch):
    died_of = raised_by(REFUSALS[0])
    assert findings(monkeypatch, died_of, value=NAN) == [("nonfinite_input", 3)]


def test_a_mask_is_no_nan(monkeypatch):
    assert findings(monkeypatch, raised_by(REFUSALS[0])) == []


def test_a_script_that_has_died_of_something_else(monkeypatch):
    assert findings(monkeypatch, raised_by(OTHERS[0]), value=NAN) == []


def test_an_exception_of_an_older_cell_of_a_notebook(monkeypatch):
    assert findings(monkeypatch, None, value=NAN, before=raised_by(REFUSALS[0])) == []
