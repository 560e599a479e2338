"""A loss that isn't made by the model: clip and step run, raise no error, and do nothing."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Linear(10, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = sg.watch(model, optimizer)
loss = torch.tensor(100.0, requires_grad=True)
loss.backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
optimizer.step()
print(monitor.summary())
