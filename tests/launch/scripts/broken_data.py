"""A schedule of noise that goes past 1: the square root of a negative number is in every batch."""

import torch
from torch import nn

torch.manual_seed(0)
kept = torch.cumprod(1 - torch.linspace(1e-4, 1.2, 100), 0)
net = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
for _ in range(4):
    x, noise = torch.randn(32, 2), torch.randn(32, 2)
    t = torch.arange(68, 100)
    noisy = kept[t].sqrt()[:, None] * x + (1 - kept[t]).sqrt()[:, None] * noise
    loss = (net(torch.cat([noisy, t[:, None] / 100], 1)) - noise).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
