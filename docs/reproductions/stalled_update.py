"""The learning rate is so small that float32 rounds every step away."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-12)
monitor = sg.watch(model, optimizer)
for _ in range(300):
    x = torch.randn(32, 16)
    loss = (model(x) - x[:, :1]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(monitor.summary())
