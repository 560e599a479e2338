"""Two trainings one after the other on data with a NaN, the second by an optimizer for each parameter."""

import torch
from torch import nn

torch.manual_seed(0)
data = torch.randn(16, 3)
data[4, 1] = float("nan")


def search():
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    for _ in range(6):
        optimizer.zero_grad()
        net(data).square().mean().backward()
        optimizer.step()


def train():
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizers = {param: torch.optim.SGD([param], 1e-3) for param in net.parameters()}

    def step(param):
        optimizers[param].step()
        optimizers[param].zero_grad()

    for param in net.parameters():
        param.register_post_accumulate_grad_hook(step)
    for _ in range(4):
        net(data).square().mean().backward()


search()
train()
