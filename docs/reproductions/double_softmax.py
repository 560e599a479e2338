"""Softmax in the model, and again inside cross_entropy."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
x = torch.randn(64, 16)
labels = torch.randint(5, (64,))
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5), nn.Softmax(dim=1))
checkup = sg.check(model, x, lambda output: nn.functional.cross_entropy(output, labels))
print(checkup)
