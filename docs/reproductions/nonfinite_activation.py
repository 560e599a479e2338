"""A logarithm in the model meets a zero."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)


class LogFeatures(nn.Module):
    """Takes the logarithm of counts; a count may be 0."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 1)

    def forward(self, counts):
        return self.head(torch.log(counts) - torch.log(counts).mean())


model = LogFeatures()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
guard = sg.guard(model, optimizer)
for step in range(10):
    counts = torch.randint(0 if step == 6 else 1, 9, (16, 8)).float()
    loss = model(counts).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(guard.summary())
