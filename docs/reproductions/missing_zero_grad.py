"""zero_grad() was forgotten: each step adds to the gradients of all steps before."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
monitor = sg.watch(model, optimizer)
for _ in range(40):
    x = torch.randn(16, 8)
    loss = (model(x) - x[:, :1]).square().mean()
    loss.backward()
    optimizer.step()
print(monitor.summary())
