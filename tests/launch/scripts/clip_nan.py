"""A loop with a clip, and one batch that holds a NaN."""

import math
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for i in range(10):
    x = torch.randn(8, 4)
    if i == 5:
        x[0, 0] = math.nan
    opt.zero_grad()
    loss = (net(x) ** 2).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    opt.step()
