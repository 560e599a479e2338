"""A search over widths: a model after the other, each in a function of its own."""

import torch
from torch import nn

torch.set_num_threads(1)


def train(width):
    torch.manual_seed(width)
    model = nn.Sequential()
    model.add_module("first", nn.Linear(2, width))
    model.add_module("last", nn.Linear(width, 1))
    for epoch in range(2):
        # A new optimizer with another rate for the same model.
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1 / (epoch + 1))
        for _ in range(3):
            x = torch.randn(8, 2)
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), x.prod(1, keepdim=True))
            loss.backward()
            optimizer.step()
    return loss.item()


print({width: round(train(width), 6) for width in (2, 3)})
