"""A true NaN hides behind GradScaler, which halves its scale for ever."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
model = nn.Linear(8, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
guard = sg.guard(model, optimizer, max_consecutive_skips=None)
for _ in range(60):
    x = torch.randn(16, 8)
    loss = (model(x) - model(x)).square().sum().sqrt()  # 0, and its slope is 0/0
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
print(guard.summary())
