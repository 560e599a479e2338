"""Accelerate: one call after `prepare`. Norms are those before `clip_grad_norm_`."""

import math

import torch
from accelerate import Accelerator
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.utils.data import DataLoader, TensorDataset

from steadygrad.integrations import accelerate

torch.manual_seed(0)
table = load_diabetes()
features = torch.tensor(table.data, dtype=torch.float32)
features[100, 3] = math.nan  # an empty cell
targets = torch.tensor(table.target, dtype=torch.float32).unsqueeze(1)
targets = (targets - targets.mean()) / targets.std()

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
loader = DataLoader(TensorDataset(features, targets), batch_size=32, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
guard = accelerate.attach(accelerator, model, optimizer, run="accelerate.steady")

for _ in range(5):
    for inputs, wanted in loader:
        with accelerator.accumulate(model):
            accelerator.backward(F.mse_loss(model(inputs), wanted))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

print(guard.summary())
guard.close()
