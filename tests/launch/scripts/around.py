"""Optimizers around optimizers, as public code has them: Lookahead without a constructor's call, SAM."""

from collections import OrderedDict, defaultdict

import torch
from torch import nn
from torch.optim import Optimizer


class Lookahead(Optimizer):
    def __init__(self, base, k=3, alpha=0.5):
        self._optimizer_step_pre_hooks = OrderedDict()
        self._optimizer_step_post_hooks = OrderedDict()
        self.base, self.k, self.alpha, self.count = base, k, alpha, 0
        self.param_groups, self.defaults, self.state = base.param_groups, base.defaults, defaultdict(dict)

    @torch.no_grad()
    def step(self, closure=None):
        loss = self.base.step(closure)
        self.count += 1
        for group in self.param_groups:
            for fast in group["params"]:
                slow = self.state[fast].setdefault("slow", fast.detach().clone())
                if self.count % self.k == 0:
                    fast.copy_(slow.add_(fast - slow, alpha=self.alpha))
        return loss


class SAM(Optimizer):
    def __init__(self, params, base, rho=0.05, **kwargs):
        super().__init__(params, {"rho": rho, **kwargs})
        self.base = base(self.param_groups, **kwargs)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        norm = torch.norm(torch.stack([p.grad.norm() for g in self.param_groups for p in g["params"]]))
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["old"] = param.detach().clone()
                param.add_(param.grad * (group["rho"] / (norm + 1e-12)))
        self.zero_grad()
        torch.enable_grad()(closure)()
        for group in self.param_groups:
            for param in group["params"]:
                param.copy_(self.state[param]["old"])
        self.base.step()
        self.zero_grad()


def loss_of(model, batch):
    return (model(batch) - batch.sum(1, keepdim=True)).square().mean()


def train(optimizer_of):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = optimizer_of(model.parameters())
    for _ in range(7):
        batch = torch.randn(8, 4)

        def closure(batch=batch):
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        loss = closure()
        optimizer.step(closure) if isinstance(optimizer, SAM) else optimizer.step()
        optimizer.zero_grad()
        print("loss", repr(loss.item()))


train(lambda params: Lookahead(torch.optim.Adam(params, 1e-2)))
train(lambda params: SAM(params, torch.optim.SGD, lr=0.1))
