"""A sigmoid ends the model, and the targets lie around 100."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
x = torch.randn(64, 16)
targets = 100.0 + 20.0 * torch.randn(64, 1)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
checkup = sg.check(model, x, lambda output: nn.functional.mse_loss(output, targets))
print(checkup)
