"""A script that knows steadygrad already."""

import sys

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
attach = sg.guard if "--late" not in sys.argv else sg.watch
monitor = None if "--late" in sys.argv else attach(model, optimizer)
for step in range(6):
    optimizer.zero_grad()
    loss = model(torch.ones(2, 3)).square().mean()
    loss.backward()
    optimizer.step()
    if monitor is None and step == 1:
        monitor = attach(model, optimizer)
    if monitor is not None:
        monitor.log(loss=loss)
print(monitor.counts.steps, [round(one.loss, 4) for one in monitor.recent if one.loss is not None])
