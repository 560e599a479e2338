"""bfloat16 weights whose float32 copies are what the optimizer steps, as loss scaling by hand does."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).bfloat16()
master = [p.detach().clone().float().requires_grad_() for p in net.parameters()]
opt = torch.optim.AdamW(master, lr=1e-2)
for i in range(20):
    x = torch.randn(32, 4)
    loss = (net(x.bfloat16()).float() - x.sum(1, keepdim=True)).square().mean()
    net.zero_grad()
    loss.backward()
    for m, p in zip(master, net.parameters()):
        m.grad = p.grad.float()
    opt.step()
    with torch.no_grad():
        for m, p in zip(master, net.parameters()):
            p.copy_(m)
print(f"{loss.item():.4f}")
