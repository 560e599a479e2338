"""A small training under a guard that goes back, on the host's path and on the accelerator's."""

from __future__ import annotations

import pytest
import torch
from tests.monitor.workloads import OPTIMIZERS, attach, batches, mlp, seeded
from torch import nn

from steadygrad.recover import rollback

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])

FAULT_AT = 60


class Run:
    """A small training under a guard, one batch a step, with faults in between."""

    def __init__(self, make=mlp, name="SGD momentum", *, late=False, log=False, plan=None, **options):
        self.model = seeded(make)
        self.optimizer = OPTIMIZERS[name](self.model.parameters())
        plan = plan or rollback(every=10)
        self.guard = attach("guard", self.model, self.optimizer, recover=plan, late=late, **options)
        self.rescue = self.guard._rescue
        self.stream = iter(batches(2000))
        self.log = log

    def go(self, steps, change=lambda batch: batch):
        losses = []
        for _ in range(steps):
            batch = change(next(self.stream))
            self.optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.model(batch[0]), batch[1])
            loss.backward()
            if self.log:
                self.guard.log(loss=loss)
            self.optimizer.step()
            losses.append(float(loss.detach()))
        assert not self.guard._logbook.faults
        return losses

    @property
    def state(self):
        moments = [one for entry in self.optimizer.state.values() for one in entry.values()]
        return [*self.model.state_dict().values(), *(one for one in moments if isinstance(one, torch.Tensor))]

    def is_finite(self):
        return all(bool(torch.isfinite(one).all()) for one in self.state)
