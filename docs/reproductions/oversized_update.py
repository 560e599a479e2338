"""Every step moves a weight matrix by a large share of its length."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
monitor = sg.watch(model, optimizer)
for _ in range(150):
    x = torch.randn(32, 16)
    loss = nn.functional.cross_entropy(model(x), torch.randint(4, (32,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(monitor.summary())
