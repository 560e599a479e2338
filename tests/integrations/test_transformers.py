"""The callback in real trainings of Transformers: a tiny language model, nothing downloaded."""

from __future__ import annotations

import math

import pytest
import torch

import steadygrad as sg
from steadygrad.errors import NonfiniteStreak

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from steadygrad.integrations.transformers import SteadygradCallback

# Transformers warns in its own code.
pytestmark = pytest.mark.filterwarnings("ignore")

STEPS = 6


class Poisoned(Trainer):
    """A loss that is NaN in some steps."""

    poisoned: tuple[int, ...] = ()
    calls = 0

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.calls += 1
        return loss * math.nan if self.calls - 1 in self.poisoned else loss


def train(folder, *callbacks, poisoned=(), **settings):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            n_layer=2, n_head=2, n_embd=16, vocab_size=32, n_positions=16, bos_token_id=0, eos_token_id=0
        )
    )
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(32, (8 * STEPS, 12), generator=generator)
    data = [{"input_ids": row, "labels": row} for row in rows]
    accumulate = settings.get("gradient_accumulation_steps", 1)
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=8 // accumulate, max_steps=STEPS, report_to=[], use_cpu=True,
        save_strategy="no", logging_steps=1, disable_tqdm=True, learning_rate=1e-3, seed=0, **settings,
    )  # fmt: skip
    trainer = Poisoned(model, arguments, train_dataset=data, callbacks=list(callbacks))
    trainer.poisoned = tuple(poisoned)
    trainer.train()
    return model, trainer


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("mode", ["watch", "guard"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"max_grad_norm": 0.1, "gradient_accumulation_steps": 2}, {"max_grad_norm": 0.0}],
)
def test_healthy_training_is_bit_identical(tmp_path, mode, settings):
    plain, _ = train(tmp_path, **settings)
    callback = SteadygradCallback(mode)
    watched, _ = train(tmp_path, callback, **settings)
    assert same(plain, watched)
    assert (callback.guard.counts.steps, callback.guard.counts.clipped) == (STEPS, 0)
    assert callback.guard.closed


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_poisoned_batch_is_left_out_and_told_as_it_was(tmp_path, max_grad_norm):
    callback = SteadygradCallback(run=tmp_path / "run.steady")
    model, trainer = train(tmp_path, callback, poisoned={2}, max_grad_norm=max_grad_norm)
    assert (callback.guard.counts.steps, callback.guard.counts.skipped) == (STEPS, 1)
    assert all(param.isfinite().all() for param in model.parameters())
    losses = sg.open_run(tmp_path / "run.steady").scalars("loss")[1]
    assert [math.isnan(loss) for loss in losses] == [step == 2 for step in range(STEPS)]
    # What the trainer says of the same step.
    assert math.isfinite(trainer.state.log_history[2]["loss"])


def test_norms_and_losses_are_the_true_ones(tmp_path):
    callback = SteadygradCallback("watch")
    _, trainer = train(tmp_path, callback, max_grad_norm=0.01)
    logged = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    for reading, entry in zip(callback.guard.recent, logged, strict=True):
        assert reading.total_norm == pytest.approx(float(entry["grad_norm"]), rel=1e-4)
        assert reading.total_norm > 0.1
        assert reading.loss == pytest.approx(entry["loss"], abs=1e-3)


def test_names_are_those_of_the_model(tmp_path):
    callback = SteadygradCallback("watch", run=tmp_path / "run.steady")
    train(tmp_path, callback)
    names = {tensor.name for tensor in sg.open_run(tmp_path / "run.steady").info.tensors}
    assert "transformer.h.1.mlp.c_fc.weight" in names


def test_too_many_poisoned_batches_stop_the_training(tmp_path):
    with pytest.raises(NonfiniteStreak):
        train(tmp_path, SteadygradCallback(max_consecutive_skips=3), poisoned=range(STEPS))


def test_second_callback_finds_the_first(tmp_path):
    first, second = SteadygradCallback(), SteadygradCallback()
    train(tmp_path, first, second, poisoned={1})
    assert second.guard is first.guard
    assert (first.guard.counts.steps, first.guard.counts.skipped) == (STEPS, 1)
