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


def test_a_step_of_several_evaluations_is_not_measured_for_its_length():
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    with sg.watch(model, optimizer) as monitor:

        def closure():
            optimizer.zero_grad()
            loss = (model(torch.ones(4, 3)) - 3.0).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        assert monitor.last.update_norms is None
