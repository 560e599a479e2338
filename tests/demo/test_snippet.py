from __future__ import annotations

import torch

from steadygrad.demo.snippet import SNIPPET, findings, watched


def test_snippet_has_eight_lines_and_compiles():
    assert len([line for line in SNIPPET.splitlines() if line]) == 8
    compile(SNIPPET, "<snippet>", "exec")


def test_watch_adds_two_lines_and_changes_none():
    lines = watched().splitlines()
    added = [line for line in lines if line not in SNIPPET.splitlines()]
    assert added == ["import steadygrad as sg", "monitor = sg.watch(model, optimizer)"]
    assert "\n".join(line for line in lines if line not in added) == SNIPPET.rstrip()


def test_steadygrad_says_that_the_loss_is_disconnected(capsys):
    found = findings()
    assert [finding.kind for finding in found] == ["disconnected_loss"]
    assert set(found[0].where) == {"weight", "bias"}
    assert capsys.readouterr() == ("", "")


def test_snippet_that_trains_gets_no_such_finding(monkeypatch):
    trains = SNIPPET.replace("torch.tensor(100.0, requires_grad=True)", "model(torch.ones(2, 10)).sum()")
    monkeypatch.setattr("steadygrad.demo.snippet.SNIPPET", trains)
    monkeypatch.setattr(watched, "__defaults__", (trains,))
    assert findings() == ()


def test_snippet_leaves_no_hook_behind():
    findings()
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    parameter.sum().backward()
    optimizer.step()
    assert float(parameter.detach()) < 1.0
