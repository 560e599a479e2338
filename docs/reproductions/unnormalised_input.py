"""Pixels from 0 to 255 go in as they are."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
pixels, labels = torch.randint(256, (64, 64)).float(), torch.randint(10, (64,))
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
checkup = sg.check(model, pixels, lambda output: nn.functional.cross_entropy(output, labels), optimizer)
print(checkup)
