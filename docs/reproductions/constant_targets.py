"""The labels are divided like pixels, so all of them become class 0: the loss falls to 0 and nothing is learnt."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
inputs, labels = torch.randn(256, 64), torch.randint(10, (256,))
labels = (labels / 255).long()
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(model.parameters())
checkup = sg.check(model, inputs, lambda output: nn.functional.cross_entropy(output, labels), optimizer)
print(checkup)
