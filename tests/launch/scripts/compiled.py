"""A compiled model, a compiled training step, and checkpointing of both kinds."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)
torch.set_num_threads(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 6)
        self.outer = nn.Linear(6, 1)

    def forward(self, x):
        hidden = checkpoint(lambda t: torch.tanh(self.inner(t)), x, use_reentrant=self.reentrant)
        return self.outer(hidden)


def run(reentrant, whole):
    net = Net()
    net.reentrant = reentrant
    model = net if whole else torch.compile(net, backend="aot_eager")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    if whole:
        step = torch.compile(step, backend="aot_eager")
    for _ in range(4):
        x = torch.randn(5, 4, requires_grad=True)
        loss = step(x, x.detach().sum(1, keepdim=True))
    print(reentrant, whole, f"{loss.item():.7f}", sum(p.double().sum().item() for p in model.parameters()))


run(reentrant=False, whole=False)
run(reentrant=True, whole=True)
