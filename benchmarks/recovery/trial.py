"""One training with one fault, under one contender; and its twins, into which nothing is put."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.optim import Optimizer

import steadygrad as sg
from benchmarks.recovery.injections import Injection
from benchmarks.recovery.trainings import STEPS, Training, rate_at
from benchmarks.survival.data import gen
from steadygrad.errors import TrainingStopped

AFTER = (10, 25, 50, 75, 100)
"""Steps after the fault at which the held-out loss is looked at."""
ENDS = (0.94, 0.97, 1.0)
"""The final loss is the mean of these places: the rate is next to nothing there."""
LOST = 30
"""Batches that the disturbed twin leaves out: what a rollback costs, and nothing else."""
EVERY = 20
"""Steps between two copies: a fixed number makes the benchmark repeatable."""


@dataclass(frozen=True)
class Result:
    """What became of it.

    Attributes:
        before: held-out loss when the fault struck.
        after: held-out loss at each of `AFTER`.
        final: at the end; infinite where the training was lost.
        rollbacks: of the guard.
        repairs: of the guard.
        stopped: the guard ended the training.
    """

    before: float
    after: tuple[float, ...]
    final: float
    rollbacks: int = 0
    repairs: int = 0
    stopped: bool = False

    def as_dict(self) -> dict[str, object]:
        """For a line of JSON."""
        return asdict(self)


Seat = Callable[[nn.Module, Optimizer], "sg.Monitor | None"]


def _guard(model: nn.Module, optimizer: Optimizer) -> sg.Monitor:
    return sg.guard(model, optimizer, recover=sg.recover.rollback(every=EVERY))


def run(training: Training, contender: str, fault: Injection | None, at: int, seed: int) -> Result:
    """Train once.

    Args:
        training: what.
        contender: ``plain``, ``clip``, ``guard``; ``disturbed`` leaves `LOST` batches out at the fault's step.
        fault: what is put in; None for a twin.
        at: the step it is put in at.
        seed: of weights, data order and fault.
    """
    torch.manual_seed(1000 + seed)
    model = training.build()
    optimizer = training.optimizer(model)
    guard = _guard(model, optimizer) if contender == "guard" else None
    try:
        return _trained(training, contender, fault, at, seed, model, optimizer, guard)
    finally:
        if guard is not None:
            guard.detach()


def _trained(
    training: Training,
    contender: str,
    fault: Injection | None,
    at: int,
    seed: int,
    model: nn.Module,
    optimizer: Optimizer,
    guard: sg.Monitor | None,
) -> Result:
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_at)
    stream, chance = training.batches(gen(5000 + seed)), gen(9000 + seed)
    before, seen, ends, stopped = math.nan, [], [], False
    for step in range(STEPS):
        since = step - at
        if since == 0:
            before = _held_out(training, model)
            if contender == "disturbed":
                for _ in range(LOST):
                    next(stream)
            if fault is not None:
                fault.state(model, optimizer, chance)
        batch = next(stream)
        struck = fault is not None and 0 <= since < fault.batches
        if struck and fault is not None:
            batch = fault.batch(batch, chance)
            for group in optimizer.param_groups:
                group["lr"] *= fault.rate
        try:
            _step(training, contender, model, optimizer, guard, batch)
        except TrainingStopped:
            stopped = True
            break
        if struck and fault is not None:
            for group in optimizer.param_groups:
                group["lr"] /= fault.rate
        schedule.step()
        if since + 1 in AFTER:
            seen.append(_held_out(training, model))
        if step + 1 in {round(share * STEPS) for share in ENDS}:
            ends.append(_held_out(training, model))
    final = math.inf if stopped or not ends else sum(ends) / len(ends)
    acted = (0, 0) if guard is None else (guard.counts.rollbacks, guard.counts.repairs)
    return Result(before, tuple(seen), final, *acted, stopped)


def _step(
    training: Training,
    contender: str,
    model: nn.Module,
    optimizer: Optimizer,
    guard: sg.Monitor | None,
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    optimizer.zero_grad()
    loss = training.loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    if guard is not None:
        guard.log(loss=loss)
    if contender == "clip":
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _held_out(training: Training, model: nn.Module) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = training.held_out(model)
    return value if math.isfinite(value) else math.inf
