"""A plain network at a rate that is a little too high: well for a hundred steps, then the gradient explodes."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
monitor = sg.watch(model, optimizer)
for _ in range(180):
    x = torch.randn(32, 20)
    loss = nn.functional.mse_loss(model(x), 3 * x[:, :1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    monitor.log(loss=loss)
print(monitor.summary())
