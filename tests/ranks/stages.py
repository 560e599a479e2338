"""A transformer cut into pipeline stages, and a mixture of experts spread over ranks, beside the same in one process."""

from __future__ import annotations

import torch
import torch.distributed as dist
from tests.ranks.real_models import WIDTH, TransformerBlock
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

ROWS, MICROBATCHES = 8, 4
EXPERTS = 2


class First(nn.Module):
    """Embedding and a block; the names are those of `Last`, in part."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.block = TransformerBlock()

    def forward(self, x):
        return self.block(self.embed(x.unflatten(1, (-1, 4))))


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = TransformerBlock()
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x):
        return self.head(self.block(x).mean(1))


def both_stages():
    torch.manual_seed(0)
    return nn.Sequential(First(), Last())


def pipeline(stage, index, schedule=ScheduleGPipe, group=None):
    """A schedule of two stages."""
    made = PipelineStage(stage, index, 2, torch.device("cpu"), group=group)
    return schedule(made, n_microbatches=MICROBATCHES, loss_fn=nn.functional.mse_loss)


SCHEDULES = (ScheduleGPipe, Schedule1F1B)


def pipeline_step(schedule, index, optimizer, batch, monitor=None):
    optimizer.zero_grad()
    losses = []
    if index == 0:
        schedule.step(batch[0])
    else:
        schedule.step(target=batch[1], losses=losses)
        if monitor is not None:
            monitor.log(loss=torch.stack(losses).detach().mean().item())
    optimizer.step()


def whole_step(model, optimizer, batch, monitor=None):
    """The same in one process, micro-batch after micro-batch."""
    optimizer.zero_grad()
    losses = []
    for x, y in zip(batch[0].chunk(MICROBATCHES), batch[1].chunk(MICROBATCHES), strict=True):
        losses.append(nn.functional.mse_loss(model(x), y))
        (losses[-1] / MICROBATCHES).backward()
    if monitor is not None:
        monitor.log(loss=torch.stack(losses).detach().mean().item())
    optimizer.step()


class Mixture(nn.Module):
    """Router, experts, head; with ``only`` one of the experts, and the others on the other ranks of ``group``."""

    def __init__(self, only=None, group=None):
        super().__init__()
        self.embed = nn.Linear(16, WIDTH)
        self.router = nn.Linear(WIDTH, EXPERTS)
        made = [nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, WIDTH)) for _ in range(EXPERTS)]
        self.head = nn.Linear(WIDTH, 1)
        self.experts = nn.ModuleDict({str(i): one for i, one in enumerate(made) if only in {None, i}})
        self._group = group

    def forward(self, x):
        hidden = self.embed(x)
        weights, seen = torch.softmax(self.router(hidden), -1), hidden
        if self._group is not None:
            weights, seen = _Copy.apply(weights, self._group), _Copy.apply(hidden, self._group)
        mixed = sum(weights[:, int(i), None] * one(seen) for i, one in self.experts.items())
        if self._group is not None:
            mixed = _Sum.apply(mixed, self._group)
        return self.head(torch.relu(hidden + mixed))


class _Copy(torch.autograd.Function):
    """The same rows for each rank's expert; their gradients add up on the way back."""

    @staticmethod
    def forward(ctx, value, group):
        ctx.group = group
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class _Sum(torch.autograd.Function):
    """Sum over the ranks that hold the experts; each of them goes on with it."""

    @staticmethod
    def forward(ctx, value, group):
        value = value.clone()
        dist.all_reduce(value, group=group)
        return value

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def mixture(only=None, group=None):
    torch.manual_seed(0)
    return Mixture(only, group)


def mean_gradients(model, expert_data):
    """What an expert-parallel trainer does after the backward pass; each expert-parallel pair has had the same rows."""
    for name, param in model.named_parameters():
        group = expert_data if name.startswith("experts") else None
        dist.all_reduce(param.grad, group=group)
        param.grad /= dist.get_world_size(group)


def mixture_step(model, optimizer, batch, expert_data=None, monitor=None):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(batch[0]), batch[1])
    loss.backward()
    if expert_data is not None:
        mean_gradients(model, expert_data)
    if monitor is not None:
        monitor.log(loss=loss.item())
    optimizer.step()
