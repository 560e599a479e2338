"""One batch with wrong targets, all off by one: the loss jumps, and comes down again."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
monitor = sg.watch(model, optimizer)
for step in range(160):
    x = torch.randn(32, 8)
    target = x[:, :1]
    if step == 120:
        target = target + 1.0
    loss = nn.functional.mse_loss(model(x), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    monitor.log(loss=loss)
print(monitor.summary())
