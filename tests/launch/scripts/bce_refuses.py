"""A count of -1 stands for a missing one; its logarithm reaches a loss that refuses what isn't a probability."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    counts = torch.randint(0, 9, (8, 3)).float()
    if step == 2:
        counts[5, 1] = -2
    output = net(torch.log(counts + 1))
    print(step)
    loss = nn.functional.binary_cross_entropy(output, torch.ones(8, 4))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
