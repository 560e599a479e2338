"""Adapters as libraries for fine-tuning build them."""

from __future__ import annotations

from torch import nn


class Lora(nn.Module):
    """A frozen layer, and a product of two small matrices beside it."""

    def __init__(self, base, rank=4):
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base(x) + 2 * self.lora_B(self.lora_A(x))
