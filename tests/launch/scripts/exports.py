"""Saves, copies and exports its model whole in the middle of the training, as people do to keep the best one."""

import copy
import io
import pickle
import pickletools

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters())
for step in range(4):
    batch = torch.randn(16, 4)
    optimizer.zero_grad()
    loss = model(batch).square().mean()
    loss.backward()
    optimizer.step()
    written = pickle.dumps(model)
    names = {word for _, word, _ in pickletools.genops(written) if isinstance(word, str)}
    best = copy.deepcopy(model).eval()
    scripted = [torch.jit.script(one) for one in (model, best, pickle.loads(written))]
    traced = torch.jit.trace(model, batch)
    torch.jit.save(scripted[0], io.BytesIO())
    print(
        f"step {step} loss {loss.item()!r}",
        [name for name in names if "steadygrad" in name],
        [torch.equal(one(batch), model(batch)) for one in (*scripted, traced)],
    )


def scripts_a_function():
    def local(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @torch.jit.script
    def double(x: torch.Tensor) -> torch.Tensor:
        return local(x)

    return double


print(scripts_a_function()(torch.ones(1)).item())
