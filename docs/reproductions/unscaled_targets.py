"""Prices go in as dollars: Adam moves the output by a few thousandths a step, and it has 300,000 to go."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
inputs = torch.randn(256, 8)
prices = 300_000 + 80_000 * (inputs[:, :1] + inputs[:, 1:2] * inputs[:, 2:3])
targets = prices
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
checkup = sg.check(model, inputs, lambda output: nn.functional.mse_loss(output, targets), optimizer)
print(checkup)
