"""`guard.clip_()`: in a loop without an optimizer, and where clip_grad_norm_ stood before a step."""

from __future__ import annotations

import pytest
import torch
from tests.monitor.workloads import (
    OPTIMIZERS,
    attach,
    batches,
    bits,
    closure_of,
    loss_of,
    mlp,
    outcome,
    poisoned,
    seeded,
    train,
    weights,
)
from torch import nn

import steadygrad as sg
from steadygrad.errors import UsageError
from steadygrad.policies import clip_norm

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])


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


@pytest.mark.parametrize("bad", ["1", -1.0, 0.0, float("nan"), True])
def test_a_norm_that_no_loop_clips_to_is_refused(bad):
    with sg.guard(torch.nn.Linear(2, 1)) as guard, pytest.raises(UsageError, match=r"guard.clip_\(max_norm="):
        guard.clip_(max_norm=bad)


def test_a_loss_logged_between_the_clip_and_the_step_is_that_of_the_step():
    model = seeded(mlp)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    with sg.guard(model, optimizer) as guard:
        for index, batch in enumerate(batches(4)):
            optimizer.zero_grad()
            loss = loss_of(model, batch) * (float("nan") if index == 2 else 1.0)
            loss.backward()
            guard.clip_()
            losses.append(loss.item())
            guard.log(loss=loss)
            optimizer.step()
        assert [repr(reading.loss) for reading in guard.recent] == list(map(repr, losses))
        # A second finding would say that the next loss is NaN although its gradient is finite.
        assert len(guard.findings) == 1
