"""A loop by hand whose logarithm reaches 0 in the third pass, after which its weights are ruined."""

import torch

torch.manual_seed(0)
weight = torch.randn(4, 3, requires_grad=True)
for step in range(6):
    out = torch.sigmoid(torch.randn(8, 4) @ weight)
    loss = -torch.log(out * (step != 2)).mean()
    loss.backward()
    weight.data -= 0.1 * weight.grad
    weight.grad.zero_()
