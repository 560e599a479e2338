"""A clip at 0.01 where gradients have norm 1: the clip has become the learning rate."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
guard = sg.guard(model, optimizer, policy=sg.policies.clip_norm(0.01))
for _ in range(220):
    x = torch.randn(32, 16)
    loss = (model(x) - x[:, :1]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(guard.summary())
