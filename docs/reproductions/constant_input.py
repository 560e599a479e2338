"""Pixels are divided as integers, so every one of them becomes 0."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
pixels, labels = torch.randint(255, (64, 64)), torch.randint(10, (64,))
inputs = (pixels // 255).float()
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(model.parameters())
checkup = sg.check(model, inputs, lambda output: nn.functional.cross_entropy(output, labels), optimizer)
print(checkup)
