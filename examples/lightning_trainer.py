"""Lightning: a callback. Without touching the script at all: STEADYGRAD=guard python train.py."""

import math

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.utils.data import DataLoader, TensorDataset

from steadygrad.integrations.lightning import SteadygradCallback


class Digits(LightningModule):
    """A classifier of handwritten digits."""

    def __init__(self) -> None:
        """Build it."""
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.layers(images)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """One batch; in each epoch one of them is broken."""
        images, labels = batch
        if index == 10:
            images[0, 0, 0] = math.nan
        return F.cross_entropy(self(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As always."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


torch.manual_seed(0)
digits = load_digits()
data = TensorDataset(torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target))

guarding = SteadygradCallback(run="lightning.steady")
trainer = Trainer(
    max_epochs=2, callbacks=[guarding], gradient_clip_val=1.0, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
)  # fmt: skip
trainer.fit(Digits(), DataLoader(data, batch_size=64, shuffle=True))
print(guarding.guard.summary())
