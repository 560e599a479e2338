"""What a trainer's own clip leaves: a step that it holds must not be held a second time."""

from __future__ import annotations

import torch

import steadygrad as sg

BOUND = 0.05
"""What the trainings clip to, far below their norms."""


def policy():
    """Would act on every norm as it comes, and on none that is at most `BOUND`."""
    return sg.policies.clip_norm(1.5 * BOUND)


class Recording(torch.optim.SGD):
    """Notes the total norm of the gradients that each step is made of."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, lr=lr)
        self.norms = []

    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.norms.append(float(torch.nn.utils.get_total_norm(grads)))
        super().step()
        return loss


def check_held_once(monitor, optimizer, plain):
    """The guard saw the norms as they came, had nothing to add, and every step is what it was without it."""
    assert (monitor.counts.steps, monitor.counts.clipped) == (len(plain.norms), 0)
    assert all(reading.total_norm > 2 * BOUND for reading in monitor.recent)
    assert optimizer.norms == plain.norms
    assert max(optimizer.norms) <= BOUND * (1 + 1e-5)
