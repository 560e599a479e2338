"""A network from plain tensors, with the update written out."""

import torch

torch.manual_seed(0)
torch.set_num_threads(1)
x, y = torch.randn(32, 3), torch.randn(32, 1)
w1 = torch.randn(3, 5, requires_grad=True)
b1 = torch.zeros(5, requires_grad=True)
w2 = torch.randn(5, 1, requires_grad=True)
for t in range(20):
    y_pred = (x.mm(w1) + b1).clamp(min=0).mm(w2)
    loss = (y_pred - y).pow(2).mean()
    loss.backward()
    with torch.no_grad():
        for w in (w1, b1, w2):
            w -= 1e-2 * w.grad
            w.grad = None
print("loss", loss.item(), "weights", sum(w.double().sum().item() for w in (w1, b1, w2)))
