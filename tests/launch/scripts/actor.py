"""An actor whose loss is what a critic says of it, and rises for as long as the critic learns how bad it is."""

import sys

import torch
from torch import nn

torch.manual_seed(0)
actor = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1), nn.Tanh())
critic = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
if sys.argv[1:] == ["together"]:
    optimizers = [torch.optim.SGD(one.parameters(), 1e-3) for one in (actor, critic)]
else:
    actor_optimizer = torch.optim.SGD(actor.parameters(), 1e-5)
    critic_optimizer = torch.optim.SGD(critic.parameters(), 1e-2)
for step in range(160):
    state = torch.randn(16, 3)
    if sys.argv[1:] == ["together"]:
        loss = critic(torch.cat([state, actor(state)], 1)).square().mean() + 1
        for one in optimizers:
            one.zero_grad()
        loss.backward()
        for one in optimizers:
            one.step()
        continue
    action = torch.rand(16, 1) * 2 - 1
    value = critic(torch.cat([state, action], 1))
    critic_loss = (value + min(step, 120) / 2).square().mean()
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()
    actor_loss = -critic(torch.cat([state, actor(state)], 1)).mean()
    actor_optimizer.zero_grad()
    actor_loss.backward()
    actor_optimizer.step()
print(actor_loss.item() if "actor_loss" in globals() else loss.item())
