"""Gradients with respect to the input, of a model that is not being trained."""

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).eval()
for _ in range(3):
    image = torch.randn(1, 4, requires_grad=True)
    model(image).sum().backward()
    print(image.grad.abs().sum().item())
