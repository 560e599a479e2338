"""A loss divides by the number of positives, and one batch has none."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
guard = sg.guard(model, optimizer)
for step in range(10):
    x = torch.randn(16, 8)
    positive = torch.zeros(16) if step == 6 else (x[:, 0] > 0).float()
    loss = (model(x)[:, 0].sigmoid() * positive).sum() / positive.sum()
    optimizer.zero_grad()
    loss.backward()
    guard.log(loss=loss)
    optimizer.step()
print(guard.summary())
