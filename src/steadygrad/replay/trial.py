"""One step of the optimizer under one change, and what came of it."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steadygrad import policies
from steadygrad.attachment import guard
from steadygrad.errors import SteadygradError, UsageError
from steadygrad.launch.policy_call import parse_policy
from steadygrad.monitor import Monitor
from steadygrad.notices import quiet
from steadygrad.policies import Policy
from steadygrad.replay.batch import Batch
from steadygrad.replay.case import Case
from steadygrad.replay.change import Change
from steadygrad.replay.passes import Driver, Pass, backward, forward
from steadygrad.replay.subject import Subject


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change would have done.

    Attributes:
        change: which.
        loss: before the step.
        loss_after: of the same batch after it.
        total_norm: before any clipping.
        clip_coef: what the gradients were multiplied by.
        update_norm: length of the change of the weights.
        update_ratio: the same over the length of the weights.
        finite: whether weights and loss are finite after it.
        skipped: whether no step was made.
        first_order: the losses are unknown; ``loss_after`` is how much the loss changes at least (if it is
            convex in the output): ``Σ g · Δoutput`` with the gradients of the run.
        note: what else is to say, or why there is nothing.
    """

    change: Change
    loss: float = math.nan
    loss_after: float = math.nan
    total_norm: float = math.nan
    clip_coef: float = 1.0
    update_norm: float = math.nan
    update_ratio: float = math.nan
    finite: bool = False
    skipped: bool = False
    first_order: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """All that trials are made with.

    Attributes:
        case: the bundle.
        subject: model and optimizer.
        batch: what the model was given.
        driver: what makes gradients.
        rows: rows that carry the fault.
    """

    case: Case
    subject: Subject
    batch: Batch
    driver: Driver
    rows: tuple[int, ...]

    def attempt(self, change: Change) -> Outcome:
        """Make one step under a change; whatever is wrong with it is told in its outcome."""
        try:
            return self._made(change)
        except SteadygradError as error:
            raise UsageError(str(error)) from None
        except Exception as fault:  # noqa: BLE001 - an operation may lack float64, a loss function may refuse fewer rows
            return Outcome(change, note=f"can't be tried: {type(fault).__name__}: {fault}".partition("\n")[0])

    def _made(self, change: Change) -> Outcome:
        dtype = getattr(torch, change.dtype) if change.dtype else None
        if change.drop_rows and not self.rows:
            return Outcome(change, note="no row is known to carry the fault")
        batch = self.batch.without(self.rows) if change.drop_rows else self.batch
        batch = batch if dtype is None else batch.cast(dtype)
        self.subject.reset(dtype)
        self._set_hyper(change)
        with quiet(), contextlib.ExitStack() as stack:
            monitor = self._guard(change, stack)
            done = forward(self.subject, batch, self.driver)
            backward(done, batch, self.driver)
            return self._stepped(change, batch, done, monitor)

    def _stepped(self, change: Change, batch: Batch, done: Pass, monitor: Monitor | None) -> Outcome:
        weights = self.subject.weights()
        before = [one.detach().clone() for one in weights]
        norm = _norm([one.grad for one in weights if one.grad is not None])
        if not change.skip:
            self.subject.optimizer.step()
        last = None if monitor is None or change.skip else monitor.last
        skipped = change.skip or (last is not None and last.skipped)
        moved = [] if skipped else [one.detach() - old for one, old in zip(weights, before, strict=True)]
        update = _norm(moved)
        after = self._after(batch, done)
        finite = all(bool(torch.isfinite(one).all()) for one in weights) and math.isfinite(after)
        return Outcome(
            change,
            float(done.loss.detach()),
            after,
            norm if last is None else last.total_norm,
            1.0 if last is None else last.clip_coef,
            update,
            update / _norm(before) if update else 0.0,
            finite,
            skipped,
            first_order=self.driver.by_record,
            note=""
            if last is None or last.lr_factor == 1.0
            else f"rate x {last.lr_factor:.3g} for this step",
        )

    def _after(self, batch: Batch, done: Pass) -> float:
        """The loss of the same batch now; by the record, how much it changed at least."""
        with torch.enable_grad():  # outputs are told apart by what requires a gradient
            now = forward(self.subject, batch, self.driver)
        if not self.driver.by_record:
            return float(now.loss.detach())
        change = 0.0
        for call, old, new in zip(batch.calls, done.outputs, now.outputs, strict=True):
            for i, gradient in (call.gradients or {}).items():
                moved = (new[i].detach() - old[i].detach()).double()
                change += float((gradient.double() * moved).sum()) / self.driver.loss_scale
        return change

    def _set_hyper(self, change: Change) -> None:
        for group in self.subject.optimizer.param_groups:
            group["lr"] = change.lr if change.lr is not None else group["lr"] * change.lr_factor
            if change.eps is not None:
                if "eps" not in group:
                    name = type(self.subject.optimizer).__name__
                    raise UsageError(f"--try {change.label}: {name} has no eps.")
                group["eps"] = change.eps

    def _guard(self, change: Change, stack: contextlib.ExitStack) -> Monitor | None:
        if not change.guarded or change.skip:
            return None
        own = self.case.bundle.facts["policy"]
        policy: Policy = (change.policy or parse_policy(own)).make(policies)
        monitor = guard(
            self.subject.model,
            self.subject.optimizer,
            policy=policy,
            recover=False,
            max_consecutive_skips=None,
        )
        stack.callback(monitor.detach)
        self._teach(monitor, whole=change.policy is None)
        return monitor

    def _teach(self, monitor: Monitor, *, whole: bool) -> None:
        """What the policy had learnt: its own statistics, or for another one the Readings before the step."""
        saved = self.case.step["policies"]
        if whole and len(saved) > self.case.optimizer:
            state = monitor.state_dict()
            state["tracks"][0].update(step=self.case.bundle.step, policy=saved[self.case.optimizer]["learnt"])
            monitor.load_state_dict(state)
            return
        for reading in self.case.readings():
            if monitor.policy is not None and not reading.skipped and math.isfinite(reading.total_norm):
                monitor.policy.learn(reading)


def _norm(tensors: list[Tensor]) -> float:
    norms = [torch.linalg.vector_norm(one.detach().double()) for one in tensors]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
