"""The distance of two equal points: its value is 0, and its derivative 0/0."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)


class Distance(nn.Module):
    """How far two points lie apart once they are embedded."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 4)

    def forward(self, a, b):
        return (self.embed(a) - self.embed(b)).square().sum(1).sqrt()


model = Distance()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
guard = sg.guard(model, optimizer)
for step in range(10):
    a, b = torch.randn(16, 8), torch.randn(16, 8)
    if step == 6:
        b[5] = a[5]
    loss = model(a, b).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(guard.summary())
