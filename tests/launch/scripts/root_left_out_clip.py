"""A root at 0 that does no harm, a gradient that is broken elsewhere, and a clip that spreads the NaN to all of them."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.ModuleDict({"first": nn.Linear(8, 32), "second": nn.Linear(8, 32), "last": nn.Linear(32, 1)})
net["second"].weight.register_hook(lambda grad: grad * float("nan"))
optimizer = torch.optim.SGD(net.parameters(), 1e-3)
x = torch.randn(32, 8)
hidden = torch.relu(net["first"](x)).sqrt() + net["second"](x)
loss = net["last"](hidden).square().mean()
loss.backward()
nn.utils.clip_grad_norm_(net.parameters(), 1.0)
optimizer.step()
