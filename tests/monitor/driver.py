"""Drives a program: its loop, its optimizers, its guard."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.monitor.happenings import Happenings
from tests.monitor.programs import CLOSURES, OPTIMIZERS, POLICIES, RECOVER, STEP_S, Clock, Net, Program, Sink
from tests.monitor.workloads import attach
from torch import Tensor, nn, optim

import steadygrad as sg
from steadygrad.errors import TrainingStopped
from steadygrad.monitor import Monitor
from steadygrad.runfile.own_clip import AFTER, BEFORE


class Boom(RuntimeError):
    """Raised in the middle of a step."""


class Driver(Happenings):
    """Drives one program."""

    def __init__(self, program: Program, folder: Path, clock: Clock) -> None:
        self.p, self.clock, self.folder = program, clock, folder
        torch.manual_seed(program.seed)
        random.seed(program.seed)
        self.net = Net(program.depth, normed=program.normed)
        self.opts = self._make_optimizers()
        self.sink = Sink()
        self.runs: list[str] = []
        self.guards: list[Monitor] = []
        self.losses: list[float] = []
        self.notes: list[Any] = []
        self.saved: dict[str, Any] = {}
        self.rate: float | None = None
        self.raises = False
        self.attach()

    def _make_optimizers(self) -> list[optim.Optimizer]:
        p, net, make = self.p, self.net, OPTIMIZERS[self.p.optimizer]
        if p.two:
            return [make(net.layers.parameters()), OPTIMIZERS["SGD"](net.head.parameters())]
        params = list(net.parameters())
        if p.groups == "reversed":
            return [make(params[::-1])]
        if p.groups == "alike":
            return [make([{"params": params[2:]}, {"params": params[:2]}])]
        if p.groups == "rates":
            return [make([{"params": params[:2], "lr": 0.003}, {"params": params[2:]}])]
        return [make(params)]

    def attach(self) -> None:
        p, what = self.p, self.opts if self.p.two else self.opts[0]
        run = str(self.folder / f"run{len(self.guards)}.steady") if p.recorded else None
        if p.late:  # as on an accelerator
            policy, recover = (
                (POLICIES[p.policy](), RECOVER[p.recover]()) if p.mode == "guard" else (None, None)
            )
            guard = attach(p.mode, self.net, what, policy, late=True, run=run, recover=recover or None)
        elif p.mode == "watch":
            guard = sg.watch(self.net, what, run=run)
        else:
            guard = sg.guard(
                self.net, what, policy=POLICIES[p.policy](), recover=RECOVER[p.recover](), run=run
            )
        guard.send_to(self.sink)
        if p.listens:
            self.sink.monitor = guard
        for opt in self.opts:
            opt.register_step_pre_hook(self._hook)
        self.guard = guard
        self.guards.append(guard)

    def _hook(self, *_: Any) -> None:
        if self.raises:
            self.raises = False
            raise Boom

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1000 * self.p.seed + i)
        x = torch.randn(12, 6, generator=generator)
        return x, x.mean(1, keepdim=True) + 1.0

    def drive(self) -> None:
        """All steps, until an error of steadygrad's ends them."""
        happens: dict[int, list[str]] = {}
        for at, what in self.p.events:
            happens.setdefault(at, []).append(what)
        for i in range(self.p.steps):
            self.clock.now += STEP_S
            try:
                self._step(i, happens.get(i, []))
            except TrainingStopped as error:
                self.notes.append((i, "stopped", type(error).__name__, str(error)))
                break

    def _step(self, i: int, happens: list[str]) -> None:
        x, y = self.batch(i)
        scale = self.p.drift**i
        for what in happens:
            if what.startswith("spike"):
                scale = float(what[5:])
            elif what == "nan batch":
                x[3, 2] = math.nan
            elif hasattr(self, "do_" + what.replace(" ", "_")):
                getattr(self, "do_" + what.replace(" ", "_"))(i)
        boom = "closure raises" in happens

        def closure() -> Tensor:
            for opt in self.opts:
                opt.zero_grad("zeroed" not in happens)
            out = self.net(x)
            loss = nn.functional.mse_loss(out, y) * scale
            loss.backward()
            if boom:
                raise Boom
            for what in happens:
                if what == "drop grads":
                    self.net.head.weight.grad = None
            if "log in closure" in happens:
                self.guard.log(inner=loss)
            self.losses.append(loss.item())
            return loss

        self.raises = "hook raises" in happens
        try:
            self._made(i, happens, closure)
        except Boom:
            self.notes.append((i, "boom"))
        self.raises = False
        for what in happens:
            if hasattr(self, "then_" + what.replace(" ", "_")):
                getattr(self, "then_" + what.replace(" ", "_"))(i)

    def _made(self, i: int, happens: list[str], closure: Callable[[], Tensor]) -> None:
        log = self.p.loss
        if self.p.optimizer in CLOSURES and not self.p.two:
            self.opts[0].step(closure)
            if log in ("after", "several"):
                self.guard.log(loss=self.losses[-1])
            return
        loss = closure()
        if log == "before":
            self.guard.log(loss=loss)
        if log == "several":
            self.guard.log(loss=loss, acc=i * 0.5)
            total = float(
                torch.nn.utils.get_total_norm([q.grad for q in self.net.parameters() if q.grad is not None])
            )
            self.guard.log(**{BEFORE: total, AFTER: min(total, 0.05)})
        if "clip" in happens or self.p.clips == "measured":
            self.notes.append((i, "clip", repr(float(self.guard.clip_()))))
        if self.p.clips == "bounded":
            self.notes.append((i, "clip", repr(float(self.guard.clip_(max_norm=0.3)))))
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 0.3)
        if log == "between":
            self.guard.log(loss=loss)
        if "no step" in happens:
            return
        if "left out" in happens:
            self.guard.left_out(self.opts[0], surely=True)
            return
        for opt in self.opts if i % 3 or not self.p.two else self.opts[:1]:
            opt.step()
        if log == "after" or (log == "sometimes" and i % 7 in (0, 3)):
            self.guard.log(loss=loss)
        if log == "several":
            self.guard.log(late=i)
