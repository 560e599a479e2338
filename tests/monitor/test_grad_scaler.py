"""Under a GradScaler, fused and not: gradients may still be scaled, and the scaler skips by itself."""

from __future__ import annotations

import math

import pytest
import torch
from tests.monitor.workloads import attach, batches, bits, mlp, outcome, poisoned, seeded, weights
from torch import nn

from steadygrad.errors import NonfiniteStreak
from steadygrad.policies import auto, clip_norm
from steadygrad.recover import Rollback

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])
fused_or_not = pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])


# Together beyond float32: the scaler has to halve its scale about eight times.
HUGE_SCALE, GAIN = 2.0**126, 2.0**10


def amp_step(model, optimizer, scaler, batch, *, unscale=False, guard=None, gain=1.0):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(batch[0]), batch[1]) * gain
    scaler.scale(loss).backward()
    if unscale:
        scaler.unscale_(optimizer)
    if guard is not None:
        guard.clip_()
    scaler.step(optimizer)
    scaler.update()


def poison_for(steps, *args, **options):
    for _ in range(steps):
        amp_step(*args, poisoned(batches(1)[0]), **options)


def workload(fused, make=torch.optim.AdamW, scale=2.0**10):
    model = seeded(mlp)
    lr = 1e-2 if scale < HUGE_SCALE else 1e-2 / GAIN
    optimizer = make(model.parameters(), lr=lr, fused=fused)
    return (
        model,
        optimizer,
        torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=5 if scale < HUGE_SCALE else 1000),
    )


@both_paths
@fused_or_not
@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("mode", ["watch", "guard"])
def test_a_healthy_run_is_untouched_and_measured_without_the_scale(fused, unscale, late, mode):
    plain, without, plain_scaler = workload(fused)
    model, optimizer, scaler = workload(fused)
    monitor = attach(mode, model, optimizer, late=late)
    for batch in batches(7):
        amp_step(plain, without, plain_scaler, batch, unscale=unscale)
        amp_step(model, optimizer, scaler, batch, unscale=unscale)
        if fused or unscale:
            true_norm = float(torch.cat([p.grad.flatten() for p in plain.parameters()]).norm())
            assert monitor.last.total_norm == pytest.approx(true_norm, rel=1e-4)
    assert outcome(model, optimizer) == outcome(plain, without)
    assert bits(scaler.state_dict()) == bits(plain_scaler.state_dict())
    assert not hasattr(optimizer, "grad_scale")
    assert not hasattr(optimizer, "found_inf")


@both_paths
@pytest.mark.parametrize("unscale", [False, True])
def test_a_clip_under_a_fused_scaler_bounds_the_unscaled_norm(unscale, late):
    model, optimizer, scaler = workload(True, torch.optim.SGD)
    monitor = attach("guard", model, optimizer, clip_norm(0.25), late=late)
    before = [param.detach().clone() for param in model.parameters()]
    amp_step(model, optimizer, scaler, batches(1)[0], unscale=unscale)
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, model.parameters(), strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(1e-2 * 0.25, rel=1e-3)
    assert monitor.last.clip_coef == pytest.approx(0.25 / monitor.last.total_norm, rel=1e-4)


@both_paths
@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("mode", ["watch", "guard"])
def test_overflows_while_the_scale_is_sought_are_counted_but_no_fault(unscale, late, mode, capsys):
    plain, without, plain_scaler = workload(True, scale=HUGE_SCALE)
    model, optimizer, scaler = workload(True, scale=HUGE_SCALE)
    monitor = attach(mode, model, optimizer, late=late, max_skips=2)
    for batch in batches(25):
        amp_step(plain, without, plain_scaler, batch, unscale=unscale, gain=GAIN)
        amp_step(model, optimizer, scaler, batch, unscale=unscale, gain=GAIN)
    assert monitor.last is not None
    assert 5 < monitor.counts.overflows < 25
    assert monitor.counts.skipped == monitor.counts.overflows
    assert outcome(model, optimizer) == outcome(plain, without)
    assert "nonfinite_gradient" not in {finding.kind for finding in monitor.findings}
    assert "skipped" not in capsys.readouterr().err


@both_paths
@pytest.mark.parametrize("unscale", [False, True])
def test_a_true_nan_under_a_fused_scaler_stops_the_run_in_the_end(unscale, late):
    model, optimizer, scaler = workload(True)
    guard = attach("guard", model, optimizer, late=late, max_skips=3)
    for batch in batches(2):
        amp_step(model, optimizer, scaler, batch, unscale=unscale)
    before = weights(model)
    with pytest.raises(NonfiniteStreak):
        poison_for(60, model, optimizer, scaler, unscale=unscale)
    assert weights(model) == before
    assert 20 < guard.counts.skipped < 40
    assert "overflow_streak" in {finding.kind for finding in guard.findings}


@both_paths
def test_an_unfused_scaler_skips_by_itself_and_the_weights_stay(late):
    model, optimizer, scaler = workload(False)
    attach("guard", model, optimizer, late=late)
    before = weights(model)
    amp_step(model, optimizer, scaler, poisoned(batches(1)[0]))
    assert weights(model) == before


class TestClipCall:
    """`guard.clip_()` after `unscale_`, where clip_grad_norm_ stood."""

    @both_paths
    @fused_or_not
    def test_a_healthy_run_is_untouched(self, fused, late):
        plain, without, plain_scaler = workload(fused)
        model, optimizer, scaler = workload(fused)
        guard = attach("guard", model, optimizer, auto(), late=late)
        for batch in batches(6):
            amp_step(plain, without, plain_scaler, batch, unscale=True)
            amp_step(model, optimizer, scaler, batch, unscale=True, guard=guard)
        assert outcome(model, optimizer) == outcome(plain, without)
        assert guard.last is not None
        assert guard.counts.steps == 6
        assert "switched off" not in guard.summary()

    @both_paths
    @fused_or_not
    @pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
    def test_overflows_are_the_scalers_business(self, fused, late, make):
        plain, without, plain_scaler = workload(fused, make, scale=HUGE_SCALE)
        model, optimizer, scaler = workload(fused, make, scale=HUGE_SCALE)
        guard = attach("guard", model, optimizer, late=late, max_skips=2)
        for batch in batches(25):
            amp_step(plain, without, plain_scaler, batch, unscale=True, gain=GAIN)
            amp_step(model, optimizer, scaler, batch, unscale=True, guard=guard, gain=GAIN)
        assert outcome(model, optimizer) == outcome(plain, without)
        assert bits(scaler.state_dict()) == bits(plain_scaler.state_dict())
        assert guard.last is not None
        assert guard.counts.steps == 25
        assert 5 < guard.counts.overflows == guard.counts.skipped

    @both_paths
    @fused_or_not
    def test_a_true_nan_stops_the_run_in_the_end(self, fused, late):
        model, optimizer, scaler = workload(fused)
        guard = attach("guard", model, optimizer, late=late, max_skips=3)
        amp_step(model, optimizer, scaler, batches(1)[0], unscale=True, guard=guard)
        before = weights(model)
        with pytest.raises(NonfiniteStreak):
            poison_for(60, model, optimizer, scaler, unscale=True, guard=guard)
        assert weights(model) == before
        assert not math.isfinite(guard.recent[-1].total_norm)


class TestLeftOut:
    """A step that an unfused optimizer was never asked to make, told by whoever knows."""

    def step(self, guard, model, optimizer, scaler, inputs, *, clips=False):
        optimizer.zero_grad()
        scaler.scale(model(inputs).square().mean()).backward()
        if clips:
            scaler.unscale_(optimizer)
            guard.clip_(optimizer)
        made = guard.counts.steps
        scaler.step(optimizer)
        if guard.counts.steps == made:
            guard.left_out(optimizer, surely=not clips)
        scaler.update()

    @pytest.mark.parametrize("mode", ["watch", "guard"])
    @pytest.mark.parametrize("clips", [False, True])
    @pytest.mark.parametrize("poisoned_step", [0, 2])
    def test_is_counted_and_its_running_statistics_are_mended_at_once(self, mode, clips, poisoned_step):
        model = seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 1)))
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        scaler = torch.amp.GradScaler("cpu")
        guard = attach(mode, model, optimizer, recover=Rollback() if mode == "guard" else None)
        for step in range(4):
            inputs, before = torch.randn(8, 4), weights(model)
            if step == poisoned_step:
                inputs[0, 0] = math.nan
            self.step(guard, model, optimizer, scaler, inputs, clips=clips)
            finite = bool(model[1].running_var.isfinite().all())
            assert finite == (mode == "guard" or step < poisoned_step)
            assert (weights(model) == before) == (step == poisoned_step)
        assert (guard.counts.steps, guard.counts.skipped, guard.counts.overflows) == (4, 1, 1)
        assert [reading.overflow for reading in guard.recent] == [n == poisoned_step for n in range(4)]
        assert not guard._logbook.faults

    def test_on_an_accelerator_nothing_is_read_and_it_is_counted_too(self):
        model, optimizer, scaler = workload(False)
        guard = attach("guard", model, optimizer, late=True)
        for batch in (batches(1)[0], poisoned(batches(1)[0]), batches(1)[0]):
            optimizer.zero_grad()
            scaler.scale(nn.functional.mse_loss(model(batch[0]), batch[1])).backward()
            before = weights(model)
            scaler.step(optimizer)
            if weights(model) == before:
                guard.left_out(optimizer, surely=True)
            scaler.update()
        assert guard.last is not None
        assert (guard.counts.steps, guard.counts.skipped, guard.counts.overflows) == (3, 1, 1)

    def test_a_step_that_was_made_is_none(self):
        model, optimizer, scaler = workload(False)
        guard = attach("guard", model, optimizer)
        amp_step(model, optimizer, scaler, batches(1)[0], unscale=True, guard=guard)
        guard.left_out(optimizer)
        assert (guard.counts.steps, guard.counts.skipped) == (1, 0)

    def test_the_fault_that_never_ends_ends_the_training(self):
        model, optimizer, scaler = workload(False)
        guard = attach("guard", model, optimizer, max_skips=3)

        def poison_and_tell():
            for _ in range(60):
                amp_step(model, optimizer, scaler, poisoned(batches(1)[0]))
                guard.left_out(optimizer, surely=True)

        with pytest.raises(NonfiniteStreak):
            poison_and_tell()
        assert "overflow_streak" in {finding.kind for finding in guard.findings}
