"""One pixel of one image is a NaN."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
guard = sg.guard(model, optimizer)
for step in range(10):
    images, labels = torch.rand(16, 1, 8, 8), torch.randint(10, (16,))
    if step == 6:
        images[3, 0, 2, 5] = float("nan")
    loss = nn.functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(guard.summary())
