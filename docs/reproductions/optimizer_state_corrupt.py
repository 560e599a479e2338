"""A flipped bit in memory: one of Adam's first moments is 100 all of a sudden."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
guard = sg.guard(model, optimizer, recover=sg.recover.rollback(every=10))
for step in range(120):
    x = torch.randn(16, 8)
    loss = (model(x) - x[:, :1]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 80:
        optimizer.state[model[0].weight]["exp_avg"][2, 2] = 100.0
print(guard.summary())
