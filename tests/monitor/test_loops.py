"""Every way people write the loop: closures, subclasses, schedulers, accumulation, compile, by hand."""

from __future__ import annotations

import gc

import pytest
import torch
from tests.monitor.workloads import (
    OPTIMIZERS,
    attach,
    batches,
    bits,
    mlp,
    outcome,
    poisoned,
    seeded,
    train,
    weights,
)
from torch import nn

import steadygrad as sg
from steadygrad.policies import clip_norm, relative_update

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


def loss_of(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def closure_of(model, optimizer, batch):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    return closure


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


class TestSchedulers:
    @both_paths
    def test_the_schedule_is_as_without_us_and_nothing_is_warned(self, late):
        histories = []
        for policy in (None, relative_update(1e-7)):
            model = seeded(mlp)
            optimizer = OPTIMIZERS["AdamW"](model.parameters())
            if policy is not None:
                guard = attach("guard", model, optimizer, policy, late=late)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8)
            rates = []
            for batch in [*batches(6), poisoned(batches(1)[0])]:
                train(model, optimizer, [poisoned(batch) if not rates and policy else batch])
                schedule.step()
                rates.append(optimizer.param_groups[0]["lr"])
            histories.append(rates)
        assert histories[0] == histories[1]
        assert guard.last is not None
        assert guard.counts.lowered > 0
        lowered = [reading for reading in guard.recent if reading.lr_factor < 1.0]
        assert lowered[0].lr > 0.0

    def test_a_rate_kept_as_a_tensor_is_the_same_object_afterwards(self):
        model = seeded(mlp)
        rate = torch.tensor(0.1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, foreach=False)
        guard = attach("guard", model, optimizer, relative_update(1e-6))
        train(model, optimizer, batches(2))
        assert optimizer.param_groups[0]["lr"] is rate
        assert float(rate) == pytest.approx(0.1)
        assert guard.counts.lowered == 2


class TestAccumulation:
    @both_paths
    def test_one_poisoned_micro_batch_skips_the_one_step(self, late):
        model = seeded(mlp)
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        guard = attach("guard", model, optimizer, late=late)
        before = weights(model)
        micro = batches(4)
        for batch in [*micro[:2], poisoned(micro[2]), micro[3]]:
            (loss_of(model, batch) / 4).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert weights(model) == before
        assert guard.last.skipped
        assert guard.counts.steps == 1


class TestByHand:
    def loop(self, model, guard, batch):
        model.zero_grad()
        loss_of(model, batch).backward()
        norm = guard.clip_()
        with torch.no_grad():
            for param in model.parameters():
                param.add_(param.grad, alpha=-0.1)
        return norm

    @both_paths
    def test_it_returns_the_norm_before_scaling_and_scales(self, late):
        plain, model = seeded(mlp), seeded(mlp)
        guard = attach("guard", model, policy=clip_norm(0.1), late=late)
        for batch in batches(3):
            loss_of(plain, batch).backward()
            expected = nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
            norm = self.loop(model, guard, batch)
            assert norm.dim() == 0
            assert norm.dtype == torch.float32
            torch.testing.assert_close(norm, expected, rtol=1e-5, atol=0.0)
            with torch.no_grad():
                for param in plain.parameters():
                    param.add_(param.grad, alpha=-0.1)
            plain.zero_grad()
        for a, b in zip(plain.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        assert guard.last.step == 2

    @both_paths
    def test_a_poisoned_step_leaves_the_weights_and_raises_nothing(self, late):
        model = seeded(mlp)
        guard = attach("guard", model, late=late)
        self.loop(model, guard, batches(1)[0])
        before = weights(model)
        norm = self.loop(model, guard, poisoned(batches(1)[0]))
        assert norm.isnan()
        assert weights(model) == before
        assert guard.last.skipped

    @both_paths
    def test_a_watch_only_measures(self, late):
        model = seeded(mlp)
        monitor = attach("watch", model, late=late)
        loss_of(model, batches(1)[0]).backward()
        before = bits([param.grad for param in model.parameters()])
        assert float(monitor.clip_()) > 0.0
        assert bits([param.grad for param in model.parameters()]) == before
        assert monitor.last.step == 0

    def test_no_gradient_at_all_gives_zero(self):
        guard = attach("guard", seeded(mlp))
        assert float(guard.clip_()) == 0.0
        assert guard.findings[0].kind == "disconnected_loss"


class TestClipCallBeforeStep:
    @both_paths
    @pytest.mark.parametrize("name", ["SGD momentum", "SGD fused", "AdamW", "AdamW fused"])
    def test_step_adds_nothing_to_what_clip_did(self, name, late):
        plain, model = seeded(mlp), seeded(mlp)
        without, optimizer = OPTIMIZERS[name](plain.parameters()), OPTIMIZERS[name](model.parameters())
        guard = attach("guard", model, optimizer, clip_norm(0.2), late=late)
        for batch in batches(3):
            closure_of(plain, without, batch)()
            nn.utils.clip_grad_norm_(plain.parameters(), 0.2)
            without.step()
            closure_of(model, optimizer, batch)()
            guard.clip_()
            grads = torch.cat([param.grad.flatten() for param in model.parameters()])
            assert float(grads.norm()) <= 0.2 * (1 + 1e-5)
            optimizer.step()
        for a, b in zip(plain.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        assert guard.last.step == 2
        assert guard.counts.steps == guard.counts.clipped == 3

    @both_paths
    @pytest.mark.parametrize("name", ["SGD momentum", "SGD fused", "AdamW", "AdamW fused"])
    def test_a_poisoned_step_is_skipped_whole(self, name, late):
        model = seeded(mlp)
        optimizer = OPTIMIZERS[name](model.parameters())
        guard = attach("guard", model, optimizer, late=late)
        train(model, optimizer, batches(2))
        before = outcome(model, optimizer)
        closure_of(model, optimizer, poisoned(batches(1)[0]))()
        guard.clip_()
        optimizer.step()
        assert outcome(model, optimizer) == before
        assert guard.last.skipped
        assert all(param.grad is not None for param in model.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@both_paths
def test_a_compiled_model_and_a_compiled_step(late):
    model = seeded(mlp)
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.01)
    guard = attach("guard", compiled, optimizer, late=late)
    compiled_step = torch.compile(optimizer.step, backend="eager")
    for batch in batches(2):
        closure_of(compiled, optimizer, batch)()
        compiled_step()
    before = weights(model)
    closure_of(compiled, optimizer, poisoned(batches(1)[0]))()
    compiled_step()
    assert weights(model) == before
    assert guard.last.skipped
    assert guard.counts.steps == 3
    assert guard.findings[0].where[0] == "4.bias"
    gc.collect()


def test_lazy_modules_are_guarded_once_they_have_a_shape():
    model = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = sg.guard(model, optimizer)
    for batch in batches(2):
        closure_of(model, optimizer, batch)()
        optimizer.step()
    assert guard.counts.steps == 2
    assert guard.last.norms.all()
    assert "switched off" not in guard.summary()
