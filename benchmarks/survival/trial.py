"""One training under one contender."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from benchmarks.survival.contenders import Contender, Seat
from benchmarks.survival.data import gen
from benchmarks.survival.workload import Workload, follows_loss_scale
from steadygrad.errors import TrainingStopped

# Held-out loss is the mean of these places: the last step alone is noisy.
JUDGED_AT = (0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Result:
    """What became of it.

    Attributes:
        loss: held-out loss; infinite where the training was lost.
        touched: share of steps that were changed.
        stopped: the contender ended the training.
        seconds: wall clock.
    """

    loss: float
    touched: float | None
    stopped: bool
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """For a line of JSON."""
        return asdict(self)


def run(workload: Workload, contender: Contender, *, scale: float, seed: int) -> Result:
    """Train once.

    Args:
        workload: what.
        contender: with whose help.
        scale: factor on the loss; SGD's rate is divided by it.
        seed: of weights and data order.
    """
    began = time.perf_counter()
    torch.manual_seed(1000 + seed)
    model = workload.build()
    optimizer = workload.optimizer(model, workload.lr)
    if follows_loss_scale(optimizer):
        _set_lr(optimizer, workload.lr / scale)
    seat = contender(model, optimizer)
    judged = {round(share * workload.steps) - 1 for share in JUDGED_AT}
    losses: list[float] = []
    stopped = False
    try:
        losses += _train(workload, model, optimizer, seat, scale, seed, judged)
    except TrainingStopped:
        stopped = True
    if seat.guard is not None:
        seat.guard.detach()
    done = len(losses) == len(judged) and all(map(math.isfinite, losses))
    mean = sum(losses) / len(losses) if done else math.inf
    return Result(mean, seat.touched, stopped, time.perf_counter() - began)


def _train(
    workload: Workload,
    model: nn.Module,
    optimizer: Optimizer,
    seat: Seat,
    scale: float,
    seed: int,
    judged: Container[int],
) -> Iterator[float]:
    """Train, and tell the held-out loss at each step that is judged."""
    stream = workload.batches(gen(5000 + seed))
    rates = [group["lr"] for group in optimizer.param_groups]
    model.train()
    for step in range(workload.steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * workload.lr_at(step)
        if workload.fault is not None:
            workload.fault(step, model, optimizer)
        optimizer.zero_grad()
        loss = workload.loss(model, next(stream)) * (scale * workload.loss_at(step))
        loss.backward()  # type: ignore[no-untyped-call]
        if seat.guard is not None:
            seat.guard.log(loss=loss)
        seat.before_step()
        optimizer.step()
        if step in judged:
            yield _held_out(workload, model)


def _held_out(workload: Workload, model: nn.Module) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = workload.held_out(model)
    return value if math.isfinite(value) else math.inf


def _set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
