"""The callback in real trainings of Lightning."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.errors import NonfiniteStreak, UsageError

pytest.importorskip("lightning")

from lightning.pytorch import Callback, LightningModule, Trainer

from steadygrad.integrations.lightning import SteadygradCallback
from steadygrad.integrations.lightning_entry import callbacks

# Lightning warns of few workers, of no validation, of its own imports.
pytestmark = pytest.mark.filterwarnings("ignore")


class Regression(LightningModule):
    def __init__(self, optimizer="adam", poisoned=(), scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.kind, self.poisoned, self.scale = optimizer, poisoned, scale
        self.batches = 0

    def loss(self, batch):
        loss = self.scale * ((self.net(batch) - batch.sum(1, keepdim=True)) ** 2).mean()
        self.batches += 1
        return loss * math.nan if self.batches - 1 in self.poisoned else loss

    def training_step(self, batch, index):
        return self.loss(batch)

    def configure_optimizers(self):
        if self.kind == "lbfgs":
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=4)
        if self.kind == "sgd":
            return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Two(Regression):
    """Manual optimization of two optimizers that take turns, one with a loss a thousand times larger."""

    automatic_optimization = False

    def training_step(self, batch, index):
        first, second = self.optimizers()
        for optimizer, factor in ((first, 1.0), (second, 1000.0)):
            optimizer.zero_grad()
            self.manual_backward(factor * self.loss(batch))
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(self.net[i].parameters(), lr=1e-5) for i in (0, 2)]


def fit(model, *own, steps=6, **settings):
    generator = torch.Generator().manual_seed(1)
    data = [torch.randn(8, 4, generator=generator) for _ in range(steps)]
    trainer = Trainer(
        max_epochs=1, callbacks=list(own), logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", devices=1, **settings,
    )  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=None))
    return model, trainer


def weights(model):
    return [param.detach().clone() for param in model.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize("mode", ["watch", "guard"])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("adam", {}),
        ("sgd", {"gradient_clip_val": 0.05}),
        ("adam", {"accumulate_grad_batches": 2}),
        ("lbfgs", {}),
        ("sgd", {"precision": "bf16-mixed"}),
    ],
)
def test_healthy_training_is_bit_identical(mode, kind, settings):
    plain, _ = fit(Regression(kind), **settings)
    callback = SteadygradCallback(mode)
    watched, _ = fit(Regression(kind), callback, **settings)
    assert callback.guard.counts.steps == 6 // settings.get("accumulate_grad_batches", 1)
    assert callback.guard.counts.clipped == 0
    assert same(plain, watched)
    assert callback.guard.closed


def test_poisoned_batch_is_left_out_and_the_loss_is_told_as_it_was(tmp_path):
    callback = SteadygradCallback(run=tmp_path / "run.steady")
    model, _ = fit(Regression(poisoned={2}), callback, gradient_clip_val=1.0)
    assert all(param.isfinite().all() for param in weights(model))
    assert (callback.guard.counts.steps, callback.guard.counts.skipped) == (6, 1)
    run = sg.open_run(tmp_path / "run.steady")
    assert math.isnan(run.scalars("loss")[1][2])
    assert run.info.tensors[0].name == "net.0.weight"


def test_origin_is_found_though_only_a_part_is_called():
    class Rooted(Regression):
        def loss(self, batch):
            self.batches += 1
            return self.net(batch * (math.nan if self.batches == 3 else 1.0)).square().mean()

    callback = SteadygradCallback()
    fit(Rooted(), callback)
    (finding,) = callback.guard.findings
    assert (finding.kind, finding.step) == ("nonfinite_input", 2)


def test_norms_are_those_before_the_clip():
    callback = SteadygradCallback("watch")
    fit(Regression(scale=100.0), callback, gradient_clip_val=0.01)
    assert all(reading.total_norm > 1.0 for reading in callback.guard.recent)


def test_policy_clips():
    callback = SteadygradCallback(policy=sg.policies.clip_norm(1e-3))
    fit(Regression(), callback)
    assert callback.guard.counts.clipped == 6


@pytest.mark.parametrize("mode", ["watch", "guard"])
def test_optimizers_that_take_turns_by_hand(mode):
    plain, _ = fit(Two())
    callback = SteadygradCallback(mode)
    watched, _ = fit(Two(), callback)
    assert callback.guard.counts.steps == 12
    assert same(plain, watched)
    small, large = callback.guard.recent[-2:]
    assert (small.optimizer, large.optimizer) == (0, 1)
    assert large.loss > 100 * small.loss


def test_poison_for_one_of_two_optimizers_costs_only_that_one_a_step():
    callback = SteadygradCallback()
    model, _ = fit(Two(poisoned={4}), callback)
    assert [r.optimizer for r in callback.guard.recent if r.skipped] == [0]
    assert all(param.isfinite().all() for param in weights(model))


def test_scaler_that_leaves_the_step_out(monkeypatch):
    from lightning.pytorch.plugins.precision import MixedPrecision

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    callback = SteadygradCallback()
    model, _ = fit(Regression(poisoned={3}), callback, plugins=[plugin])
    assert (callback.guard.counts.steps, callback.guard.counts.skipped) == (6, 1)
    assert all(param.isfinite().all() for param in weights(model))


class Normed(Regression):
    """A NaN in the batch itself, which reaches the running statistics."""

    def __init__(self, poisoned):
        super().__init__()
        self.net.insert(1, nn.BatchNorm1d(8))
        self.broken = poisoned

    def training_step(self, batch, index):
        return self.loss(torch.full_like(batch, math.nan) if index == self.broken else batch)


class Following(Callback):
    """A moving average, which takes running statistics as they are after each batch."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        assert all(buffer.isfinite().all() for buffer in pl_module.buffers())


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("poisoned", [0, 3])
def test_running_statistics_are_well_before_a_moving_average_takes_them(clip, poisoned):
    from lightning.pytorch.plugins.precision import MixedPrecision

    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0))
    callback = SteadygradCallback()
    fit(Normed(poisoned), Following(), callback, plugins=[plugin], gradient_clip_val=clip)
    assert (callback.guard.counts.steps, callback.guard.counts.overflows) == (6, 1)


def test_deepspeed_is_refused_with_what_still_works():
    from lightning.pytorch.strategies import SingleDeviceStrategy

    class DeepSpeedStrategy(SingleDeviceStrategy):
        pass

    with pytest.raises(UsageError, match=r"^SteadygradCallback\(\): DeepSpeed keeps .* What still works:"):
        fit(Regression(), SteadygradCallback(), strategy=DeepSpeedStrategy(torch.device("cpu")))


def test_too_many_poisoned_batches_stop_the_training():
    with pytest.raises(NonfiniteStreak):
        fit(Regression(poisoned=range(6)), SteadygradCallback(max_consecutive_skips=3))


def test_what_was_learnt_comes_back_with_the_checkpoint(tmp_path):
    policy = sg.policies.autoclip(percentile=50.0)
    callback = SteadygradCallback(policy=policy)
    _, trainer = fit(Regression(), callback)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = SteadygradCallback(policy=policy)
    model = Regression()
    trainer = Trainer(
        max_epochs=2, callbacks=[again], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", devices=1,
    )  # fmt: skip
    data = [torch.randn(8, 4) for _ in range(6)]
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=None), ckpt_path=tmp_path / "a.ckpt")
    assert [reading.step for reading in again.guard.recent] == list(range(6, 12))


def test_two_callbacks_are_one_guard(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEADYGRAD", "guard")
    own = SteadygradCallback()
    _, trainer = fit(Regression(poisoned={1}), own)
    from_environment = trainer.callbacks[-1]
    assert type(from_environment).__name__ == "FromEnvironment"
    assert from_environment.guard is own.guard
    assert (own.guard.counts.steps, own.guard.counts.skipped) == (6, 1)


def test_environment_alone_is_enough(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert callbacks() == []
    monkeypatch.setenv("STEADYGRAD", "watch")
    fit(Regression())
    (file,) = tmp_path.glob("steadygrad-runs/*.steady")
    assert len(sg.open_run(file).steps) == 6


def test_slip_of_the_pen_in_the_environment(monkeypatch):
    monkeypatch.setenv("STEADYGRAD", "gaurd")
    with pytest.raises(UsageError, match="expected guard or watch"):
        callbacks()
