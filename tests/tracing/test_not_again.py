"""Steps of models that don't do the same twice: a replay must not blame who is innocent."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.origin import LOSS
from steadygrad.tracing import Capture
from steadygrad.tracing.capture import MOST_KEPT, NOT_AGAIN


class Counting(nn.Module):
    """The logarithm of a negative number, at its second call alone."""

    def __init__(self, outputs=1):
        super().__init__()
        self.head = nn.Linear(3, outputs)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        y = self.head(x)
        bad = (torch.arange(len(y)) == 1) & (self.calls == 2)
        return torch.where(bad[:, None], torch.log(0 * y - 1), y)


def stepped(outputs=1, keep=True):
    model = Counting(outputs)
    capture = Capture(model)
    for _ in range(2):
        output = model(torch.randn(4, 3))
        output.square().mean().backward()
    kept = output if keep else None
    del output
    return capture.replay(), kept


def test_no_graph_is_held():
    model = Counting()
    capture = Capture(model)
    output = model(torch.randn(4, 3))
    graph = weakref.ref(output)
    del output
    assert graph() is None
    capture.close()


def test_an_output_that_was_broken_and_is_not_again_is_not_the_losses_fault():
    replay, _ = stepped(keep=False)
    assert replay.origin is None
    assert replay.note == f"{NOT_AGAIN} (rows 1 of its output)"


def test_a_large_output_is_looked_at_while_somebody_holds_it():
    replay, _ = stepped(outputs=MOST_KEPT, keep=True)
    assert replay.origin is None
    assert replay.note.startswith(NOT_AGAIN)


def test_without_the_output_the_loss_is_blamed_with_a_reservation():
    replay, _ = stepped(outputs=MOST_KEPT, keep=False)
    assert replay.origin.operation == LOSS
    assert "or the model doesn't do the same twice" in replay.origin.note


@pytest.mark.parametrize("attach", [sg.watch, sg.guard])
def test_the_finding_says_that_the_step_was_not_made_again(attach):
    model = Counting()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with attach(model, optimizer) as guard:
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(4, 3)).square().mean().backward()
            optimizer.step()
        (finding,) = (one for one in guard.findings if one.kind.startswith("nonfinite"))
    assert finding.kind == "nonfinite_gradient"
    assert "Where it began isn't known" in finding.summary
    assert "in the step it wasn't" in finding.summary


def test_the_loss_is_told_with_what_names_its_operation():
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with sg.watch(model, optimizer) as watch:
        for bad in (False, True):
            optimizer.zero_grad()
            output = model(torch.randn(4, 3))
            loss = output.square().mean()
            (loss + (0 * output).sum().sqrt() if bad else loss).backward()
            optimizer.step()
        finding = watch.findings[-1]
    assert finding.kind == "nonfinite_loss"
    assert "first made by the loss" in finding.summary
    assert "steadygrad.trace(model, batch, loss_fn) names the operation" in finding.summary


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("outputs", [5, MOST_KEPT])
def test_an_output_that_the_loss_masked_in_place_is_not_the_models_fault(outputs, in_place):
    model = nn.Linear(3, outputs)
    capture = Capture(model)
    logits = model(torch.randn(4, 3))
    mask = torch.zeros(4, outputs, dtype=torch.bool)
    mask[:, -1] = True
    masked = logits.masked_fill_(mask, -torch.inf) if in_place else logits.masked_fill(mask, -torch.inf)
    loss = masked[:, :-1].square().mean() + (0 * masked[:, 0]).sum().sqrt()
    loss.backward()
    replay = capture.replay()
    assert replay.origin is not None
    assert replay.origin.operation == LOSS
    assert replay.note == ""
    assert ("or the model doesn't do the same twice" in replay.origin.note) == in_place
