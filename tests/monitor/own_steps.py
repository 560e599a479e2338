"""Optimizers with a step of their own, as people write them."""

from __future__ import annotations

import torch
from torch import optim


class Clearing(optim.SGD):
    """Clears its gradients when it has used them."""

    def step(self, closure=None):
        loss = super().step(closure)
        self.zero_grad()
        return loss


class Plain(optim.Optimizer):
    """What the others are made of: a loop over the parameters."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        if closure is not None:
            with torch.enable_grad():
                closure()
        self.begin()
        for group in self.param_groups:
            for param in group["params"]:
                self.move(param, group)

    def begin(self):
        """Once a step."""

    def move(self, param, group):
        """Once a parameter."""
        param.add_(param.grad, alpha=-group["lr"])


class Nulling(Plain):
    """Lets each gradient go when it has used it."""

    def move(self, param, group):
        if param.grad is not None:
            super().move(param, group)
            param.grad = None


class Unchecking(Plain):
    """Takes it for granted that there are gradients, half-way through."""

    def move(self, param, group):
        param.mul_(0.99)
        super().move(param, group)


class Decaying(Plain):
    """Decays what has no gradient, too."""

    def move(self, param, group):
        param.mul_(0.99)
        if param.grad is not None:
            super().move(param, group)


class Remembering(Plain):
    """Keeps numbers, tensors, lists and dicts: in the state, in the groups, and beside both."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, lr)
        self.t = 0
        self.total = torch.zeros(())
        self.history = []
        self.param_groups[0]["k"] = 0
        self.param_groups[0]["bounds"] = [0.0, 1.0]

    def begin(self):
        self.t += 1
        self.total += 1.0
        self.history.append(torch.full((), float(self.t)))
        self.late = torch.full((), float(self.t))
        self.param_groups[0]["k"] += 1
        self.param_groups[0]["bounds"][0] += 1.0
        self.param_groups[0].setdefault("since", self.t)

    def move(self, param, group):
        state = self.state[param]
        if not state:
            state["step"] = torch.zeros(())
            state["codes"] = torch.zeros_like(param, dtype=torch.uint8)
            state["moments"] = {"first": torch.zeros_like(param), "older": []}
        state["step"] += 1
        state["codes"] += 1
        first = state["moments"]["first"]
        first.mul_(0.9).add_(param.grad)
        state["moments"]["older"] = [*state["moments"]["older"][-2:], first.clone()]
        param.sub_(first + 1e-3, alpha=group["lr"])


class Noisy(Plain):
    """Adds noise (Langevin dynamics), and writes into the gradients."""

    def move(self, param, group):
        param.grad.add_(torch.randn_like(param), alpha=1e-2)
        super().move(param, group)


class Around(optim.Optimizer):
    """Holds another optimizer and hands its groups on, as Lookahead does."""

    def __init__(self, params, lr=0.01):
        self.base = optim.AdamW(params, lr=lr, amsgrad=True)
        super().__init__(self.base.param_groups, {})
        self.param_groups = self.base.param_groups
        self.param_groups[0]["lookahead_step"] = 0

    @torch.no_grad()
    def step(self, closure=None):
        loss = self.base.step(closure)
        for group in self.param_groups:
            group["lookahead_step"] = group.get("lookahead_step", 0) + 1
            for param in group["params"]:
                slow = self.base.state[param].setdefault("slow", param.clone())
                if group["lookahead_step"] % 2 == 0:
                    param.copy_(slow.lerp_(param, 0.5))
        return loss


class SAM(optim.Optimizer):
    """Sharpness-aware minimisation (Foret et al. 2021): moves, evaluates again, and moves back."""

    def __init__(self, params, lr=0.01, rho=0.05):
        super().__init__(params, {"lr": lr, "rho": rho})
        self.base = optim.SGD(self.param_groups, lr=lr, momentum=0.9)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        params = [param for group in self.param_groups for param in group["params"]]
        norm = torch.stack([param.grad.norm() for param in params]).norm()
        for param in params:
            self.state[param]["e"] = param.grad * (self.param_groups[0]["rho"] / (norm + 1e-12))
            param.add_(self.state[param]["e"])
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for param in params:
            param.sub_(self.state[param]["e"])
        self.base.step()
        self.zero_grad()


OWN = {one.__name__: one for one in (Nulling, Unchecking, Decaying, Remembering, Noisy, Around)}
OWN["Clearing"] = lambda params: Clearing(params, lr=0.01, momentum=0.9, weight_decay=0.1)
