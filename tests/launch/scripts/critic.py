"""A critic trained uphill and downhill by the gradient given to backward, then clamped."""

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(2, 16), nn.ReLU(True), nn.Linear(16, 1))

    def forward(self, x):
        return self.main(x).mean(0).view(1)


critic = Critic()
optimizer = torch.optim.RMSprop(critic.parameters(), lr=5e-4)
one = torch.ones(1)
for _ in range(5):
    for p in critic.parameters():
        p.data.clamp_(-0.05, 0.05)
    critic.zero_grad()
    real = critic(torch.randn(8, 2) + 2)
    real.backward(one)
    fake = critic(torch.randn(8, 2))
    fake.backward(one * -1)
    optimizer.step()
    print(f"loss {(real - fake).item():.7f}")
