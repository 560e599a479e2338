"""Softmax over one number is 1, always."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
x = torch.randn(64, 16)
labels = torch.randint(2, (64, 1)).float()
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1), nn.Softmax(dim=1))
checkup = sg.check(model, x, lambda output: nn.functional.binary_cross_entropy(output, labels))
print(checkup)
