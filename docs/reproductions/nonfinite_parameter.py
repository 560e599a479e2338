"""A weight is overwritten by a NaN, behind the optimizer's back."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = sg.watch(model, optimizer)
for step in range(40):
    x = torch.randn(16, 8)
    loss = model(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 20:
        with torch.no_grad():
            model[0].weight[3, 3] = float("nan")
print(monitor.summary())
