"""Optimizers of every habit: subclasses, several at once, ones that raise or grow."""

from __future__ import annotations

import pytest
import torch
from tests.monitor.workloads import (
    attach,
    batches,
    loss_of,
    mlp,
    poisoned,
    seeded,
    weights,
)
from torch import nn

import steadygrad as sg
from steadygrad.policies import clip_norm, relative_update

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


class Twice(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


class Broken(torch.optim.SGD):
    broken = False

    def step(self, closure=None):
        super().step(closure)
        if self.broken:
            raise RuntimeError("the user's own")


class TestOptimizers:
    @both_paths
    def test_a_subclass_that_calls_super_is_clipped_once(self, late):
        model = seeded(mlp)
        optimizer = Twice(model.parameters(), lr=1.0)
        guard = attach("guard", model, optimizer, clip_norm(0.1), late=late)
        before = [param.detach().clone() for param in model.parameters()]
        loss_of(model, batches(1)[0]).backward()
        optimizer.step()
        moved = torch.cat(
            [(a - b.detach()).flatten() for a, b in zip(before, model.parameters(), strict=True)]
        )
        assert float(moved.norm()) == pytest.approx(0.1, rel=1e-4)
        assert guard.last.step == 0
        assert guard.counts.steps == 1

    def test_what_was_borrowed_is_back_after_a_step_that_raised(self):
        model = seeded(mlp)
        optimizer = Broken(model.parameters(), lr=0.5)
        guard = attach("guard", model, optimizer)
        loss_of(model, poisoned(batches(1)[0])).backward()
        optimizer.broken = True
        with pytest.raises(RuntimeError, match="the user's own"):
            optimizer.step()
        optimizer.broken = False
        optimizer.zero_grad()
        loss_of(model, batches(1)[0]).backward()
        optimizer.step()
        assert all(param.grad is not None for param in model.parameters())
        assert guard.counts.steps == 1

    @pytest.mark.parametrize("fused", [False, True])
    def test_rate_and_fused_attributes_are_back_after_the_next_step(self, fused):
        class Breaking(torch.optim.AdamW):
            broken = True

            def step(self, closure=None):
                super().step(closure)
                if self.broken:
                    raise RuntimeError("the user's own")

        model = seeded(mlp)
        optimizer = Breaking(model.parameters(), lr=0.5, fused=fused)
        attach(
            "guard", model, optimizer, sg.policies.chain(relative_update(1e-6), clip_norm(1e-3)), late=fused
        )
        loss_of(model, batches(1)[0]).backward()
        with pytest.raises(RuntimeError, match="the user's own"):
            optimizer.step()
        optimizer.broken = False
        optimizer.step()
        assert optimizer.param_groups[0]["lr"] == 0.5
        assert not hasattr(optimizer, "grad_scale")
        assert not hasattr(optimizer, "found_inf")

    @both_paths
    def test_several_optimizers_each_have_their_own_reading_and_policy(self, late):
        model = seeded(mlp)
        first = torch.optim.SGD(model[0].parameters(), lr=0.1)
        second = torch.optim.AdamW(model[2:].parameters(), lr=0.1)
        guard = attach("guard", model, [first, second], clip_norm(1e-3), late=late)
        for batch in batches(3):
            first.zero_grad()
            second.zero_grad()
            loss_of(model, batch).backward()
            first.step()
            second.step()
        sizes = {(reading.optimizer, len(reading.norms)) for reading in guard.recent}
        assert sizes == {(0, 2), (1, 4)}
        assert guard.counts.steps == guard.counts.clipped == 6
        assert guard._tracks[0].policy is not guard._tracks[1].policy

    def test_a_parameter_in_two_optimizers_is_measured_in_both(self):
        model = nn.Linear(2, 1)
        first, second = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
        monitor = attach("watch", model, [first, second])
        model(torch.ones(1, 2)).sum().backward()
        first.step()
        second.step()
        assert [reading.total_norm for reading in monitor.recent] == [monitor.last.total_norm] * 2

    @both_paths
    def test_parameters_added_later_are_guarded(self, late):
        model = seeded(mlp)
        optimizer = torch.optim.SGD(model[:3].parameters(), lr=0.1, momentum=0.9)
        guard = attach("guard", model, optimizer, late=late)
        loss_of(model, batches(1)[0]).backward()
        optimizer.step()
        optimizer.add_param_group({"params": model[4].parameters(), "lr": 0.2})
        loss_of(model, batches(1)[0]).backward()
        optimizer.step()
        assert len(guard.last.norms) == 6
        before = weights(model)
        model[4].bias.grad.fill_(float("nan"))
        optimizer.step()
        assert weights(model) == before
        assert guard.last.nonfinite.tolist() == [False] * 5 + [True]
        assert "switched off" not in guard.summary()

    @both_paths
    def test_parameters_added_later_are_recorded_after_the_step_under_way(self, late, tmp_path):
        model = seeded(mlp)
        optimizer = torch.optim.SGD(model[:3].parameters(), lr=0.1)
        guard = attach("guard", model, optimizer, late=late, run=tmp_path / "a.steady")
        for step in range(4):
            if step == 2:
                optimizer.add_param_group({"params": model[4].parameters()})
            optimizer.zero_grad()
            loss_of(model, batches(1)[0]).backward()
            optimizer.step()
        assert [len(reading.norms) for reading in guard.recent] == [4, 4, 6, 6]
        assert "switched off" not in guard.summary()
        guard.close()
        with sg.open_run(tmp_path / "a.steady") as run:
            assert run.absent("4.weight").tolist() == [True, True, False, False]

    def test_a_gradient_that_turns_sparse_is_measured_and_guarded(self):
        embedding = nn.Embedding(6, 3, sparse=True)
        optimizer = torch.optim.SGD(embedding.parameters(), lr=1.0)
        guard = attach("guard", embedding, optimizer, clip_norm(0.5))
        embedding.weight.grad = torch.ones(6, 3)
        optimizer.step()
        optimizer.zero_grad()
        before = embedding.weight.detach().clone()
        embedding(torch.tensor([1, 1, 4])).sum().backward()
        optimizer.step()
        assert guard.last.total_norm == pytest.approx((3 * 4 + 3) ** 0.5)
        assert float((before - embedding.weight.detach()).norm()) == pytest.approx(0.5, rel=1e-5)
