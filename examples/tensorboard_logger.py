"""A logger beside the run file: a few curves of a run, and its findings as texts."""

import torch
from sklearn.datasets import load_diabetes
from torch import nn

import steadygrad as sg

torch.manual_seed(0)
table = load_diabetes()
features = torch.tensor(table.data, dtype=torch.float32)
targets = torch.tensor(table.target, dtype=torch.float32).unsqueeze(1)  # up to 346: not scaled, as it happens

model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

with sg.guard(model, optimizer) as guard:
    guard.send_to(sg.sinks.TensorBoard("logs", every=5))  # WandB(), MLflow() and Trackio() alike
    for _ in range(60):
        loss = (model(features) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        guard.log(loss=loss)

print(guard.summary())
print("next: tensorboard --logdir logs")
