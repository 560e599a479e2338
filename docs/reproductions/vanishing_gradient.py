"""Twelve sigmoid layers: each multiplies the gradient by a quarter at most."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
layers = [part for _ in range(12) for part in (nn.Linear(32, 32), nn.Sigmoid())]
model = nn.Sequential(*layers, nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = sg.watch(model, optimizer)
for _ in range(60):
    x = torch.randn(64, 32)
    loss = nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    monitor.log(loss=loss)
print(monitor.summary())
