"""Targets that are NaN in two rows of a batch, or a loss that takes the logarithm of targets that are 0."""

import sys

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, 1), nn.Softplus())
optimizer = torch.optim.AdamW(net.parameters(), 1e-3)


def log_loss(estimate, target):
    return (torch.log(estimate) - torch.log(target)).square().mean()


def train():
    x = torch.randn(8, 3)
    depth = x.square().sum(1, keepdim=True)
    depth[[2, 5]] = float("nan") if sys.argv[1] == "nan" else 0.0
    for _ in range(4):
        loss = log_loss(net(x), depth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item())


train()
