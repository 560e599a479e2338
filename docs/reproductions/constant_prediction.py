"""A mean over the rows instead of the features: gradients flow, and the loss stands at the entropy of the labels."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
monitor = sg.watch(model, optimizer, overhead=1.0)  # such a small training looks too seldom
for _ in range(1200):
    x = torch.randn(256, 8)
    labels = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    x = x - x.mean(dim=1, keepdim=True)
    x = x.mean(dim=0, keepdim=True).expand(256, 8)
    loss = nn.functional.cross_entropy(model(x), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    monitor.log(loss=loss)
print(monitor.summary())
