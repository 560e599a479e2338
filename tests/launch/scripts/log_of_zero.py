"""The logarithm in the loss is the script's own, and its argument reaches 0 in the third step."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for step in range(5):
    out = net(torch.randn(8, 3))
    loss = -(torch.log(out * (step != 2)) + torch.log(1 - out)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
