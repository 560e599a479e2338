"""Weights ten times too large before a tanh: all units sit at its flat ends."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
x = torch.randn(64, 16)
model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
nn.init.normal_(model[0].weight, std=10.0)
checkup = sg.check(model, x, lambda output: (output - x[:, :1]).square().mean())
print(checkup)
