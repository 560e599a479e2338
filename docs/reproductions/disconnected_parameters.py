"""A detach() between body and head: the body never receives a gradient."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)


class Cut(nn.Module):
    """A head on features that were detached by mistake."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.body(x).relu().detach())


model = Cut()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = sg.watch(model, optimizer)
for _ in range(40):
    x = torch.randn(16, 8)
    loss = (model(x) - x[:, :1]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(monitor.summary())
