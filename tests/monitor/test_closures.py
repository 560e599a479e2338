"""Steps that are handed a closure: the gradients come into being inside them."""

from __future__ import annotations

import pytest
import torch
from tests.monitor.workloads import (
    OPTIMIZERS,
    attach,
    batches,
    closure_of,
    mlp,
    outcome,
    poisoned,
    seeded,
    train,
)
from torch import nn

import steadygrad as sg
from steadygrad.policies import Policy, clip_norm
from steadygrad.report.chapters import chapters
from steadygrad.report.judging import judge

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


class TestClosures:
    @both_paths
    @pytest.mark.parametrize("name", ["SGD momentum", "AdamW", "AdamW fused"])
    @pytest.mark.parametrize("keyword", [False, True])
    def test_gradients_made_inside_are_the_ones_judged(self, name, keyword, late):
        plain, guarded = seeded(mlp), seeded(mlp)
        without, optimizer = OPTIMIZERS[name](plain.parameters()), OPTIMIZERS[name](guarded.parameters())
        guard = attach("guard", guarded, optimizer, clip_norm(0.2), late=late)
        for batch in batches(3):
            closure_of(plain, without, batch)()
            nn.utils.clip_grad_norm_(plain.parameters(), 0.2)
            without.step()
            closure = closure_of(guarded, optimizer, batch)
            loss = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
            assert float(loss.detach()) > 0.0
        assert guard.last is not None
        assert guard.counts.clipped == 3
        for a, b in zip(plain.parameters(), guarded.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

    @both_paths
    def test_a_poisoned_batch_inside_a_closure_is_skipped(self, late):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        guard = attach("guard", model, optimizer, late=late)
        optimizer.step(closure_of(model, optimizer, batches(1)[0]))
        before = outcome(model, optimizer)
        optimizer.step(closure_of(model, optimizer, poisoned(batches(1)[0])))
        assert outcome(model, optimizer) == before
        assert guard.last.skipped

    def test_lightnings_order_forward_inside_and_stale_gradients_outside(self):
        """Its closure clears, runs forward and backward; before it, last step's gradients still stand."""
        model = seeded(mlp)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        monitor = attach("watch", model, optimizer)
        stale = torch.full_like(model[0].weight, 1e6)
        model[0].weight.grad = stale
        optimizer.step(closure_of(model, optimizer, batches(1)[0]))
        assert monitor.last.total_norm < 1e3

    @pytest.mark.parametrize("name", ["LBFGS", "LBFGS strong_wolfe"])
    def test_an_lbfgs_step_of_many_evaluations_is_one_step(self, name):
        model = seeded(mlp)
        optimizer = OPTIMIZERS[name](model.parameters())
        monitor = attach("watch", model, optimizer)
        train(model, optimizer, batches(3))
        assert monitor.counts.steps == 3

    def test_a_closure_that_raises_passes_untouched_and_the_next_step_counts(self):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        guard = attach("guard", model, optimizer)

        def broken():
            raise ZeroDivisionError("mine")

        with pytest.raises(ZeroDivisionError, match="mine"):
            optimizer.step(broken)
        optimizer.step(closure_of(model, optimizer, batches(1)[0]))
        assert guard.counts.steps == 1
        assert "switched off" not in guard.summary()


class TestManyEvaluations:
    def norms_of_an_lbfgs_step(self, policy, late):
        """Gradient norms as the optimizer found them after each evaluation, and the Reading."""
        model = seeded(mlp)
        optimizer = OPTIMIZERS["LBFGS"](model.parameters())
        guard = attach("guard", model, optimizer, policy, late=late)
        found, raw = [], []
        closure = closure_of(model, optimizer, batches(1)[0])

        def observed():
            if raw:
                found.append(norm_of(model))
            loss = closure()
            raw.append(norm_of(model))
            return loss

        optimizer.step(observed)
        found.append(norm_of(model))
        return found, raw, guard.last

    @both_paths
    def test_the_factor_of_the_first_evaluation_holds_for_the_whole_step(self, late):
        found, raw, reading = self.norms_of_an_lbfgs_step(clip_norm(0.5), late)
        assert len(found) == len(raw) > 2
        assert reading.clip_coef == pytest.approx(0.5 / raw[0], rel=1e-5)
        assert found == pytest.approx([norm * reading.clip_coef for norm in raw], rel=1e-5)

    @both_paths
    def test_later_evaluations_are_not_scaled_where_the_first_was_not(self, late):
        found, raw, reading = self.norms_of_an_lbfgs_step(Second(), late)
        assert reading.clip_coef == 1.0
        assert found == raw


class Second(Policy):
    """Halves the gradients of every evaluation but the first."""

    def __init__(self):
        self.calls = 0

    def scale(self, measurement):
        self.calls += 1
        return torch.ones_like(measurement.total_norm) * (1.0 if self.calls == 1 else 0.5)


def norm_of(model):
    return float(torch.cat([param.grad.flatten() for param in model.parameters()]).norm())


def several_evaluations(optimizer, model):
    def closure():
        optimizer.zero_grad()
        loss = (model(torch.ones(4, 3)) - 3.0).square().mean()
        loss.backward()
        return loss

    return closure


def test_a_whole_descent_is_measured_at_every_step():
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, tolerance_change=0.0)
    with sg.watch(model, optimizer) as monitor:
        for _ in range(4):
            before = model.weight.detach().clone()
            optimizer.step(several_evaluations(optimizer, model))
            moved = float((model.weight.detach() - before).norm())
            assert monitor.last.update_norms[0] == pytest.approx(moved, rel=1e-5)


def test_a_step_of_several_evaluations_that_is_none_is_not_measured_for_its_length():
    class Twice(torch.optim.SGD):
        def step(self, closure=None):
            closure()
            return super().step(closure)

    model = torch.nn.Linear(3, 1)
    optimizer = Twice(model.parameters(), lr=0.1)
    with sg.watch(model, optimizer) as monitor:
        optimizer.step(several_evaluations(optimizer, model))
        assert monitor.last.update_norms is None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_that_leaps_on_batches_that_change_is_told_and_a_line_search_cures_it(seed, search, tmp_path):
    torch.manual_seed(seed)
    inputs = torch.randn(256, 8)
    labels = (inputs[:, :1].sin() + 0.5 * inputs[:, 1:2] * inputs[:, 2:3] > 0).long()[:, 0]
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn=search)
    with sg.watch(model, optimizer, run=tmp_path / "run.steady") as monitor:
        for _ in range(6):
            rows = torch.randint(0, 256, (32,))

            def closure(rows=rows):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
                loss.backward()
                return loss

            monitor.log(loss=optimizer.step(closure).detach())
    recorded = judge(sg.open_run(tmp_path / "run.steady"))
    for findings in (monitor.findings, recorded):
        told = [one for one in findings if one.kind == "oversized_update"]
        assert bool(told) == (search is None)
        for one in told:
            assert "strong_wolfe" in one.remedies[0].code
            assert one.evidence["update_ratio"] > 100
    if told:
        assert chapters(monitor.findings)[0].root.kind == "oversized_update"
