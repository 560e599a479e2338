"""Findings about how model, loss, optimizer and loop hang together."""

from __future__ import annotations

import pytest
import torch
from tests.monitor.workloads import attach, batches, mlp, seeded
from torch import nn

import steadygrad as sg

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


def kinds(monitor):
    return [finding.kind for finding in monitor.findings]


def test_the_eight_line_snippet_is_told_what_is_wrong(capsys):
    model = nn.Linear(10, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = sg.watch(model, optimizer)
    loss = torch.tensor(100.0, requires_grad=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()
    (finding,) = monitor.findings
    assert finding.kind == "disconnected_loss"
    assert finding.severity == "error"
    assert finding.step == 0
    assert set(finding.where) == {"weight", "bias"}
    assert finding.remedies
    assert "disconnected_loss" in capsys.readouterr().err
    assert "disconnected_loss" in monitor.summary()


@both_paths
@pytest.mark.parametrize("mode", ["watch", "guard"])
def test_a_disconnected_loss_is_found_on_both_paths(mode, late):
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters())
    monitor = attach(mode, model, optimizer, late=late)
    model(batches(1)[0][0]).detach().requires_grad_().sum().backward()
    optimizer.step()
    assert kinds(monitor) == ["disconnected_loss"]


def train_head(model, optimizer, steps=20):
    for batch in batches(steps):
        optimizer.zero_grad()
        model(batch[0]).square().mean().backward()
        optimizer.step()


class Forgetful(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Linear(6, 1)
        self.unused = nn.Linear(6, 1)
        self.frozen = nn.Linear(6, 1).requires_grad_(False)

    def forward(self, x):
        return self.used(x)


@both_paths
def test_parameters_that_never_get_a_gradient_are_named(late):
    model = seeded(Forgetful)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = attach("watch", model, optimizer, late=late)
    train_head(model, optimizer)
    (finding,) = [f for f in monitor.findings if f.kind == "disconnected_parameters"]
    assert set(finding.where) == {"unused.weight", "unused.bias"}


class TestStaleOptimizer:
    def test_a_head_replaced_before_attaching_is_found_at_once(self, capsys):
        model = seeded(mlp)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        model[4] = nn.Linear(8, 1)
        monitor = sg.watch(model, optimizer)
        (finding,) = monitor.findings
        assert finding.kind == "stale_optimizer"
        assert set(finding.where) == {"4.weight", "4.bias"}
        assert "stale_optimizer" in capsys.readouterr().err

    @both_paths
    def test_a_head_replaced_later_is_found_soon(self, late):
        model = seeded(mlp)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        monitor = attach("watch", model, optimizer, late=late)
        train_head(model, optimizer, 4)
        model[4] = nn.Linear(8, 1)
        train_head(model, optimizer, 16)
        assert kinds(monitor).count("stale_optimizer") == 1

    @both_paths
    @pytest.mark.parametrize("replaced_at", [257, 600])
    def test_a_head_replaced_in_mid_training_is_found_within_256_steps(self, late, replaced_at):
        model = seeded(mlp)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
        monitor = attach("guard", model, optimizer, late=late)
        train_head(model, optimizer, replaced_at)
        assert "stale_optimizer" not in kinds(monitor)
        model[4] = nn.Linear(8, 1)
        train_head(model, optimizer, 257)
        (found,) = [one for one in monitor.findings if one.kind == "stale_optimizer"]
        assert replaced_at < found.step <= replaced_at + 256
        train_head(model, optimizer, 257)
        assert kinds(monitor).count("stale_optimizer") == 1

    def test_many_optimizers_are_looked_through_once(self, monkeypatch):
        model = seeded(mlp)
        optimizers = [torch.optim.SGD([param], lr=0.001) for param in model.parameters()]
        monitor = sg.watch(model, optimizers)
        looks = []
        monkeypatch.setattr("steadygrad.monitor.stale", lambda *given: looks.append(given[2]))
        for batch in batches(260):
            model.zero_grad()
            model(batch[0]).square().mean().backward()
            for one in optimizers:
                one.step()
        monitor.close()
        assert looks == [1, 16, 256]

    def test_training_only_a_head_is_fine(self):
        model = seeded(mlp)
        optimizer = torch.optim.SGD(model[4].parameters(), lr=0.01)
        monitor = sg.watch(model, optimizer)
        train_head(model, optimizer, 20)
        assert kinds(monitor) == []

    @both_paths
    def test_freezing_later_is_fine_beside_an_optimizer_that_is_not_watched(self, late):
        model = seeded(mlp)
        watched = torch.optim.SGD(model[:4].parameters(), lr=0.001)
        other = torch.optim.SGD(model[4].parameters(), lr=0.001)
        monitor = attach("guard", model, watched, late=late)
        for step, batch in enumerate(batches(520)):
            if step == 300:
                model[0].requires_grad_(False)
            model.zero_grad()
            model(batch[0]).square().mean().backward()
            watched.step()
            other.step()
        assert "stale_optimizer" not in kinds(monitor)

    @both_paths
    @pytest.mark.parametrize("wrapped_at", [0, 5])
    def test_a_layer_that_is_frozen_and_wrapped_into_an_adapter_is_found(self, late, wrapped_at):
        model = seeded(mlp)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)

        def wrap():
            model[0] = nn.Sequential(model[0].requires_grad_(False), nn.Linear(8, 8))

        if not wrapped_at:
            wrap()
        monitor = attach("watch", model, optimizer, late=late)
        train_head(model, optimizer, 5)
        if wrapped_at:
            wrap()
        train_head(model, optimizer, 15)
        (found,) = [one for one in monitor.findings if one.kind == "stale_optimizer"]
        assert set(found.where) == {"0.1.weight", "0.1.bias"}

    def test_a_loss_with_parameters_of_its_own_is_fine(self):
        model = seeded(mlp)
        scale = nn.Parameter(torch.ones(3))
        optimizer = torch.optim.SGD([*model.parameters(), scale], lr=0.01)
        assert kinds(sg.watch(model, optimizer)) == []

    def test_two_optimizers_that_share_the_work_are_fine(self):
        model = seeded(mlp)
        pair = [torch.optim.SGD(model[0].parameters(), lr=0.1), torch.optim.AdamW(model[2:].parameters())]
        assert kinds(sg.watch(model, pair)) == []


def test_a_healthy_training_has_no_finding():
    model = seeded(mlp)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with sg.guard(model, optimizer) as guard:
        train_head(model, optimizer, 40)
    assert kinds(guard) == []
    assert guard.summary().startswith("steadygrad guard: healthy, 40 steps")
