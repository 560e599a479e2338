"""Sine curves fitted with LBFGS, whose closure is evaluated several times a step."""

import torch
import torch.nn as nn

torch.manual_seed(0)
torch.set_num_threads(1)


class Curve(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(1, 10)
        self.out = nn.Linear(10, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x)))


x = torch.linspace(-2, 2, 40).unsqueeze(1)
y = torch.sin(x)
seq, criterion = Curve(), nn.MSELoss()
optimizer = torch.optim.LBFGS(seq.parameters(), lr=0.8, max_iter=5)
for i in range(6):

    def closure():
        optimizer.zero_grad()
        loss = criterion(seq(x), y)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    print(f"step {i} loss {first.item():.9f}")
print("weights", sum(p.double().sum().item() for p in seq.parameters()))
