"""A hand-written trainer: two networks under one optimizer, accumulation, a schedule, checkpoints."""

import argparse
import copy
import dataclasses
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import OneCycleLR


@dataclasses.dataclass
class Config:
    steps: int = 16
    accumulate: int = 2
    max_norm: float = 1.0
    poison: int = -1


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))

    def forward(self, x):
        x = F.relu_(self.norm(self.stem(x)))
        for block in self.blocks:
            x = x + F.relu(block(x))
        return x.mean((2, 3))


class Trainer:
    def __init__(self, config):
        self.config = config
        self.backbone = Backbone()
        self.head = nn.Linear(4, 3)
        self.ema = copy.deepcopy(self.backbone).requires_grad_(False)
        params = [
            {"params": self.backbone.parameters(), "weight_decay": 0.01},
            {"params": self.head.parameters(), "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(params, lr=1e-3)
        self.scheduler = OneCycleLR(self.optimizer, 1e-2, total_steps=config.steps + 1)

    def batches(self):
        generator = torch.Generator().manual_seed(3)
        for index in range(self.config.steps * self.config.accumulate):
            images = torch.randn(6, 1, 8, 8, generator=generator)
            if index == self.config.poison:
                images[0, 0, 0, 0] = float("nan")
            yield images, torch.randint(0, 3, (6,), generator=generator)

    def fit(self, folder):
        for index, (images, labels) in enumerate(self.batches()):
            loss = F.cross_entropy(self.head(self.backbone(images)), labels) / self.config.accumulate
            loss.backward()
            if (index + 1) % self.config.accumulate:
                continue
            params = [p for group in self.optimizer.param_groups for p in group["params"]]
            norm = clip_grad_norm_(params, self.config.max_norm)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            with torch.no_grad():
                for mine, theirs in zip(self.ema.parameters(), self.backbone.parameters(), strict=True):
                    mine.lerp_(theirs, 0.1)
            print(f"{index} loss {loss.item():.6f} norm {norm.item():.5f}")
        torch.save(
            {"net": self.backbone.state_dict(), "opt": self.optimizer.state_dict()}, folder / "last.pt"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--poison", type=int, default=-1)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    trainer = Trainer(Config(poison=parser.parse_args().poison))
    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(Path(folder))
        saved = torch.load(Path(folder) / "last.pt", weights_only=True)
    print("weights", sum(v.double().sum().item() for v in saved["net"].values()))


if __name__ == "__main__":
    main()
