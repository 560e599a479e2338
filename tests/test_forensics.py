"""A guard or a watch that meets a non-finite step says where it began."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.forensics import MAX_REPLAYS
from steadygrad.runfile import open_run

both = pytest.mark.parametrize("attach", [sg.watch, sg.guard], ids=["watch", "guard"])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x):
        h = self.first(x)
        return self.head(h + torch.sqrt(h.square().sum(1, keepdim=True) * x[:, :1].abs()))


def batch(*, broken=False):
    x = torch.rand(4, 3) + 0.5
    if broken:
        x[2, 0] = 0.0
    return x


def train(attach, batches, **options):
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    monitor = attach(model, optimizer, **options)
    for x in batches:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return model, monitor


@both
def test_the_finding_names_operation_module_line_and_rows(attach, tmp_path):
    batches = [batch(), batch(), batch(broken=True)]
    _, monitor = train(attach, batches, run=tmp_path / "a.steady")
    (finding,) = monitor.findings
    assert (finding.kind, finding.step) == ("nonfinite_gradient", 2)
    assert finding.where[0] == "the model"
    assert "SqrtBackward0" in finding.summary
    assert "test_forensics.py" in finding.summary
    assert finding.evidence["first batch row"] == 2.0
    assert "square root" in finding.causes[0]
    monitor.close()
    with open_run(tmp_path / "a.steady") as run:
        assert run.findings[0].summary == finding.summary


class Distance(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 2)

    def forward(self, x):
        return self.embed(x).square().sum(1).sqrt()


@both
def test_the_last_operation_of_the_model_is_one_of_its_own(attach):
    torch.manual_seed(0)
    model = Distance()
    model.embed.bias.data.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    monitor = attach(model, optimizer)
    x = batch()
    x[2] = 0.0
    model(x).mean().backward()
    optimizer.step()
    (finding,) = monitor.findings
    assert "the model (Distance)" in finding.summary
    assert "self.embed(x).square().sum(1).sqrt()" in finding.summary


@both
def test_no_line_is_blamed_where_only_library_modules_run(attach):
    model = nn.Sequential(nn.Linear(3, 2), nn.LogSoftmax(1), nn.Linear(2, 1))
    model[2].weight.data.fill_(3e38)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    monitor = attach(model, optimizer)
    model(10.0 * batch()).sum().backward()
    optimizer.step()
    told = monitor.findings[0].summary
    assert "optimizer.step" not in told
    assert "(Linear)" in told or "(LogSoftmax)" in told


@both
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_broken_data_is_told_from_a_broken_model(attach, bad):
    poisoned = batch()
    poisoned[1, 1] = bad
    _, monitor = train(attach, [batch(), poisoned])
    assert monitor.findings[0].kind == "nonfinite_input"
    assert monitor.findings[0].evidence["first batch row"] == 1.0


def test_a_guard_is_no_remedy_for_who_has_one():
    for attach, offered in ((sg.watch, True), (sg.guard, False)):
        _, monitor = train(attach, [batch() * math.nan])
        codes = [remedy.code for remedy in monitor.findings[0].remedies]
        assert any("steadygrad.guard" in code for code in codes) is offered


def test_the_run_goes_on_as_without_a_replay(monkeypatch):
    batches = [batch(), batch(broken=True), batch(), batch()]
    traced, _ = train(sg.guard, batches)
    monkeypatch.setattr("steadygrad.forensics.MAX_REPLAYS", 0)
    plain, guard = train(sg.guard, batches)
    assert "SqrtBackward0" not in guard.findings[0].summary
    assert all(map(torch.equal, traced.parameters(), plain.parameters()))


def test_replays_are_bounded():
    _, guard = train(sg.guard, [batch(broken=True)] * (MAX_REPLAYS + 2), max_consecutive_skips=None)
    assert len(guard._logbook.forensics._origins) == MAX_REPLAYS


def test_a_fault_of_tracing_costs_neither_the_skip_nor_the_finding(capsys):
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    guard = sg.guard(model, optimizer)

    def broken(*args):
        raise RuntimeError("no trace today")

    guard._logbook.forensics.look = broken
    model(batch(broken=True)).square().mean().backward()
    optimizer.step()
    assert guard.last.skipped
    assert [finding.kind for finding in guard.findings] == ["nonfinite_gradient"]
    assert "steadygrad's own tracing" in capsys.readouterr().err


def test_close_leaves_no_hook():
    model, guard = train(sg.guard, [batch()])
    guard.close()
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_a_fault_that_goes_on_is_explained_when_it_can_be():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = batch()
    x[1, 1] = math.nan
    model(x).sum().backward()
    guard = sg.guard(model, optimizer)  # the first forward pass has gone by
    optimizer.step()
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()
    guard.close()
    assert [(one.kind, one.step) for one in guard.findings] == [
        ("nonfinite_gradient", 0),
        ("nonfinite_input", 1),
    ]


def test_a_later_fault_is_told_once():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    ill = batch()
    ill[1, 1] = math.nan
    model(ill).sum().backward()
    guard = sg.guard(model, optimizer)
    optimizer.step()
    for x in [*(batch() for _ in range(20)), ill]:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
    guard.close()
    found = [(one.kind, one.step) for one in guard.findings if one.kind.startswith("nonfinite")]
    assert found == [("nonfinite_gradient", 0), ("nonfinite_input", 21)]
