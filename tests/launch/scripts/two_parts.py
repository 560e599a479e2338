"""One model, its body and its head with an optimizer each."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 16)
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


torch.manual_seed(0)
net = Net()
body_opt = torch.optim.Adam(net.body.parameters(), lr=1e-3)
head_opt = torch.optim.Adam(net.head.parameters(), lr=1e-2)
for i in range(10):
    x = torch.randn(32, 4)
    loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
    body_opt.zero_grad()
    head_opt.zero_grad()
    loss.backward()
    body_opt.step()
    head_opt.step()
