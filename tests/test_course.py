"""The loss before its step, after it, and late: judged with its step all the same."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import steadygrad as sg


def train(monitor_of, losses, *, before):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with monitor_of(model, optimizer) as monitor:
        for value in losses:
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            if before:
                monitor.log(loss=value)
            optimizer.step()
            if not before:
                monitor.log(loss=torch.tensor(value))
        return monitor.findings


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("monitor_of", [sg.watch, sg.guard])
def test_a_broken_loss_is_found_at_its_step(monitor_of, before):
    findings = train(monitor_of, [1.0, 1.0, math.nan, 1.0], before=before)
    assert [(f.kind, f.step) for f in findings] == [("nonfinite_loss", 2)]


@pytest.mark.parametrize("before", [True, False])
def test_losses_reach_the_detectors(before):
    findings = train(sg.watch, [1.0] * 40 + [1e9] * 6, before=before)
    assert {"divergence", "loss_spike"} <= {f.kind for f in findings}
    assert {f.step for f in findings} == {40}


def test_no_loss_no_verdict():
    assert not train(sg.watch, [0.0] * 4, before=True)


@pytest.mark.parametrize("monitor_of", [sg.watch, sg.guard])
def test_weights_that_are_ruined_before_the_start_are_named_at_once(monitor_of, capsys):
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1))
    with torch.no_grad():
        model[1].weight[0, 1] = math.inf
    with monitor_of(model, torch.optim.SGD(model.parameters(), lr=0.1)) as monitor:
        (finding,) = monitor.findings
    assert (finding.kind, finding.step, finding.where) == ("nonfinite_parameter", 0, ("1.weight",))
    assert "nonfinite_parameter at step 0" in capsys.readouterr().err


def test_weights_ruined_by_hand_between_two_steps_are_named_in_the_next():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = None
    with sg.guard(model, optimizer, recover=False) as guard:
        for step in range(6):
            if step == 4:
                with torch.no_grad():
                    model[1].weight.mul_(math.nan)
                before = model[0].weight.detach().clone()
            optimizer.zero_grad()
            model(torch.randn(8, 4)).mean().backward()
            optimizer.step()
        finding = guard.findings[0]
    assert (finding.kind, finding.step) == ("nonfinite_parameter", 4)
    assert torch.equal(model[0].weight, before)


def test_a_loss_like_the_newest_waits_for_the_next_few_and_one_above_them_for_nothing():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    monitor = sg.watch(model, optimizer)
    told = monitor._logbook.findings
    for step in range(65):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        assert "loss_spike" not in {f.kind for f in told}
        monitor.log(loss=1e6 if step == 64 else 1.0 + step % 3)
    assert [(f.kind, f.step) for f in told if f.kind == "loss_spike"] == [("loss_spike", 64)]
    monitor.close()


def test_losses_that_wait_are_looked_at_when_somebody_asks():
    losses = [1.0] * 40 + [1e9] * 3 + [1e8, 1e8, 1e8]  # the last ones are no larger than those before
    kinds = {f.kind for f in train(sg.watch, losses, before=False)}
    assert "divergence" in kinds
