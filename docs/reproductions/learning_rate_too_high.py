"""A rate beyond what the curvature of the loss allows."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
x = torch.randn(64, 8)
checkup = sg.check(model, x, lambda output: (output - x[:, :1]).square().mean(), optimizer)
print(checkup)
