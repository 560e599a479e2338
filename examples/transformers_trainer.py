"""Transformers: a callback. It sees the true loss; the trainer's own log shows a number where it was NaN."""

import math
import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from steadygrad.integrations.transformers import SteadygradCallback


class OneBadLoss(Trainer):
    """A trainer whose loss is NaN once."""

    calls = 0

    def compute_loss(self, *args: object, **kwargs: object) -> torch.Tensor:
        """Spoil the sixth loss."""
        self.calls += 1
        loss = super().compute_loss(*args, **kwargs)
        return loss * math.nan if self.calls == 6 else loss


torch.manual_seed(0)
text = torch.tensor(list(open(__file__, "rb").read()))  # noqa: SIM115, PTH123 - this file is the data set
rows = text.unfold(0, 32, 8)
data = [{"input_ids": row, "labels": row} for row in rows]

model = GPT2LMHeadModel(
    GPT2Config(vocab_size=256, n_positions=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
)
guarding = SteadygradCallback(run="transformers.steady")
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder, per_device_train_batch_size=16, max_steps=30, learning_rate=3e-3, use_cpu=True, report_to=[],
        save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    OneBadLoss(model, arguments, train_dataset=data, callbacks=[guarding]).train()
print(guarding.guard.summary())
