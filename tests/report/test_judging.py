from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.report import Story, judge, readings

# What only the live run knows: where a number was made needs a replay of the step, the wiring needs the model.


def train(path, *, lr, steps=60, ruin=None, before=True):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with sg.watch(model, optimizer, run=path) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            inputs = torch.randn(16, 8)
            loss = (model(inputs) - inputs[:, :1]).square().mean()
            loss.backward()
            value = ruin if ruin is not None and step == 30 else loss.item()
            if before:
                monitor.log(loss=value)
            optimizer.step()
            if not before:
                monitor.log(loss=value)
        return monitor.findings


def brief(findings):
    return [(f.kind, f.severity, f.step, f.where) for f in findings]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("case", [{"lr": 0.01}, {"lr": 30.0, "steps": 8}, {"lr": 0.01, "ruin": float("nan")}])
def test_a_recorded_run_gets_the_verdict_it_got_live(tmp_path, case, before):
    live = train(tmp_path / "a.steady", before=before, **case)
    with sg.open_run(tmp_path / "a.steady") as run:
        again = judge(run)
        story = Story(run, again)
    kinds = {f.kind for f in live if not f.kind.startswith("nonfinite_") or f.kind == "nonfinite_loss"}
    assert kinds <= {f.kind for f in again}
    assert {f.step for f in live if f.kind in kinds} <= {f.step for f in again}
    assert bool(again) == bool(live)
    assert (story.verdict.state == "healthy") == (not live)


def test_readings_are_those_that_were_recorded(tmp_path):
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in model]
    seen = []
    with sg.watch(model, optimizers, run=tmp_path / "a.steady") as monitor:
        for step in range(40):
            for i, (part, optimizer) in enumerate(zip(model, optimizers, strict=True)):
                optimizer.zero_grad()
                part(torch.randn(4, 3)).square().mean().backward()
                if step % 5 == 0:
                    part.bias.grad = None
                optimizer.step()
                seen.append((i, monitor.last))
    with sg.open_run(tmp_path / "a.steady") as run:
        for i in range(2):
            again = list(readings(run, i))
            live = [reading for lane, reading in seen if lane == i]
            assert [r.step for r in again] == [r.step for r in live]
            for one, other in zip(again, live, strict=True):
                np.testing.assert_allclose(one.norms, other.norms, rtol=3e-3)
                assert one.optimizer == i
                assert (one.absent is None) == (other.absent is None)
                assert one.absent is None or one.absent.tolist() == other.absent.tolist()
                assert (one.update_norms is None) == (other.update_norms is None)
                if one.update_norms is not None:
                    np.testing.assert_allclose(one.update_norms, other.update_norms, rtol=3e-3)
                    np.testing.assert_allclose(one.param_norms, other.param_norms, rtol=3e-3)


def test_a_run_without_a_step_has_no_findings(tmp_path):
    train(tmp_path / "a.steady", lr=0.1, steps=0)
    with sg.open_run(tmp_path / "a.steady") as run:
        assert judge(run) == ()
