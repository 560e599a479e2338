"""A bias of -10 before a ReLU: its units output 0 whatever comes."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
x = torch.randn(64, 16)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
nn.init.constant_(model[0].bias, -10.0)
checkup = sg.check(model, x, lambda output: (output - x[:, :1]).square().mean())
print(checkup)
