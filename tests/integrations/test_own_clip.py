"""A trainer that clips by itself hands its threshold to the guard: Lightning, Accelerate, Transformers."""

from __future__ import annotations

import pytest
import torch
from tests.integrations.own_clip import BOUND, Recording, check_held_once, policy
from torch import nn

pytest.importorskip("lightning")
pytest.importorskip("accelerate")

from accelerate import Accelerator
from lightning.pytorch import LightningModule, Trainer

from steadygrad.integrations.accelerate import attach
from steadygrad.integrations.lightning import SteadygradCallback

pytestmark = pytest.mark.filterwarnings("ignore")

STEPS = 5


class Regression(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(self, batch):
        return 10 * (self.net(batch) - batch.sum(1, keepdim=True)).square().mean()

    def training_step(self, batch, index):
        return self.loss(batch)

    def configure_optimizers(self):
        return Recording(self.parameters())


class OwnRule(Regression):
    """Decides in the hook that Lightning has for it."""

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        self.clip_gradients(optimizer, gradient_clip_val=BOUND, gradient_clip_algorithm="norm")


class ByHand(Regression):
    automatic_optimization = False

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        self.clip_gradients(optimizer, gradient_clip_val=BOUND, gradient_clip_algorithm="norm")
        optimizer.step()


def fit(kind, *callbacks, **settings):
    generator = torch.Generator().manual_seed(1)
    data = [torch.randn(8, 4, generator=generator) for _ in range(STEPS)]
    trainer = Trainer(
        max_epochs=1, callbacks=list(callbacks), logger=False, enable_checkpointing=False, accelerator="cpu", devices=1,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(kind(), torch.utils.data.DataLoader(data, batch_size=None))
    return trainer.optimizers[0]


@pytest.mark.parametrize(
    ("kind", "settings"), [(Regression, {"gradient_clip_val": BOUND}), (OwnRule, {}), (ByHand, {})]
)
def test_lightning(kind, settings):
    callback = SteadygradCallback(policy=policy())
    optimizer = fit(kind, callback, **settings)
    check_held_once(callback.guard, optimizer, fit(kind, **settings))
    assert all(reading.loss is not None for reading in callback.guard.recent)


def test_lightning_clips_values_and_the_norms_as_they_came_count():
    callback = SteadygradCallback(policy=policy())
    fit(Regression, callback, gradient_clip_val=10.0, gradient_clip_algorithm="value")
    assert callback.guard.counts.clipped == STEPS


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("guarded", [False, True])
def test_accelerate(guarded, part):
    optimizers, monitor = [], None
    for attached in (False, guarded):
        torch.manual_seed(0)
        accelerator = Accelerator(cpu=True)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizers.append(Recording(model.parameters()))
        model, optimizer = accelerator.prepare(model, optimizers[-1])
        if attached:
            monitor = attach(accelerator, model, optimizer, policy=policy())
        for _ in range(STEPS):
            batch = torch.randn(8, 4)
            accelerator.backward(10 * (model(batch) - batch.sum(1, keepdim=True)).square().mean())
            accelerator.clip_grad_norm_((model[0] if part else model).parameters(), max_norm=BOUND)
            optimizer.step()
            optimizer.zero_grad()
    if monitor is not None and part:  # the rest is as long as it was, and held
        assert monitor.counts.clipped == STEPS
    elif monitor is not None:
        check_held_once(monitor, optimizers[1], optimizers[0])


def test_transformers(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments
    from transformers import Trainer as HfTrainer

    from steadygrad.integrations.transformers import SteadygradCallback as HfCallback

    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 32, "n_positions": 16}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    rows = torch.randint(32, (8 * STEPS, 12), generator=torch.Generator().manual_seed(1))
    runs = []
    for callbacks in ([], [HfCallback(policy=policy())]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config)
        optimizer = Recording(model.parameters())
        arguments = TrainingArguments(
            str(tmp_path), max_steps=STEPS, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True, seed=0,
            max_grad_norm=BOUND,
        )  # fmt: skip
        data = [{"input_ids": row, "labels": row} for row in rows]
        HfTrainer(
            model, arguments, train_dataset=data, callbacks=callbacks, optimizers=(optimizer, None)
        ).train()
        runs.append((optimizer, callbacks))
    (plain, _), (guarded, (callback,)) = runs
    check_held_once(callback.guard, guarded, plain)
