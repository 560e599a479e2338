"""Trainings under the guard as it comes, with their raw norms and losses; and the same begun anew under a cap."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

import steadygrad as sg
from benchmarks.faults.case import Case
from benchmarks.starts.looking_back import WINDOW, Look, look_back
from benchmarks.survival.data import gen
from benchmarks.survival.workload import Workload

LETS_GO = 1.03
"""Factor on the cap at each step, and at ten times its beginning it is gone: as the cap after a rollback."""


@dataclass(frozen=True)
class Cap:
    """A cap on the gradient's norm, beside the guard.

    Attributes:
        max_norm: in units of the loss, or of the usual norm where the run begins anew.
        begins_anew: after the window, from the first state.
        stays: it never lets go.
    """

    max_norm: float = math.inf
    begins_anew: bool = False
    stays: bool = True


@dataclass(frozen=True)
class Recorded:
    """One training.

    Attributes:
        norms: raw total norm of every step.
        losses: of every step.
        held_out: loss at the end on data never seen.
    """

    norms: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    held_out: float = math.nan

    @property
    def look(self) -> Look | None:
        """What looking back sees."""
        return look_back(self.norms, self.losses)

    def as_dict(self) -> dict[str, object]:
        """For a line of JSON."""
        return asdict(self)


def record(workload: Workload, seed: int, cap: Cap = Cap(), steps: int | None = None) -> Recorded:
    """Train once: ``steps``, or as many as the workload has.

    Begun anew, the batches of the window have been used up, as after a rollback.
    """
    steps = steps or workload.steps
    if not cap.begins_anew:
        return _train(workload, seed, range(steps), cap.max_norm, stays=cap.stays)
    look = record(workload, seed, steps=WINDOW).look
    if look is None:
        return Recorded()
    return _train(workload, seed, range(WINDOW, steps), cap.max_norm * look.usual, stays=cap.stays)


def record_case(case: Case) -> Recorded:
    """Train a case of `benchmarks.faults` once."""
    torch.manual_seed(0)
    training = case.build()
    guard = sg.guard(training.model, training.optimizers, max_consecutive_skips=None, recover=True)
    norms, losses = [], []
    for step in range(case.steps):
        loss = training.step(step).detach()
        guard.log(loss=loss)
        losses.append(float(loss))
        norms.append(math.nan if guard.last is None else guard.last.total_norm)
    guard.close()
    return Recorded(norms, losses)


def _train(workload: Workload, seed: int, steps: range, max_norm: float, *, stays: bool) -> Recorded:
    torch.manual_seed(1000 + seed)
    model = workload.build()
    optimizer = workload.optimizer(model, workload.lr)
    guard = sg.guard(model, optimizer, max_consecutive_skips=None, recover=True)
    stream = workload.batches(gen(5000 + seed))
    for _ in range(steps.start):
        next(stream)
    rates = [group["lr"] for group in optimizer.param_groups]
    opens, norms, losses = 10 * max_norm, [], []
    for step in steps:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * workload.lr_at(step)
        optimizer.zero_grad()
        loss = workload.loss(model, next(stream)) * workload.loss_at(step)
        loss.backward()  # type: ignore[no-untyped-call]
        guard.log(loss=loss)
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), max_norm)))
        max_norm *= 1.0 if stays else LETS_GO
        max_norm = max_norm if stays or max_norm <= opens else math.inf
        optimizer.step()
        losses.append(float(loss.detach()))
    guard.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Recorded(norms, losses, workload.held_out(model))
