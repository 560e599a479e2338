"""Trainings in which much happens, drawn by hypothesis, and driven with the short way open or closed.

Time stands still within a step, so that what is spaced by its measured cost comes at the same steps in both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn, optim

import steadygrad as sg
from steadygrad.measure import Spending
from steadygrad.monitor import Monitor
from steadygrad.stepping.short_way import ShortWay

STEP_S = 0.01


class Twice(optim.SGD):
    """Calls its closure twice, in some steps only."""

    def step(self, closure: Any = None) -> Any:
        if closure is None:
            return super().step()
        loss = closure()
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls % 5 == 0:
            closure()
        super().step()
        return loss


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=1e-3),
    "AdamW fused": lambda p: optim.AdamW(p, lr=1e-3, fused=True),
    "amsgrad": lambda p: optim.AdamW(p, lr=1e-3, amsgrad=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=1e-3, momentum=0.5),
    "closure": lambda p: optim.SGD(p, lr=0.01, momentum=0.9),
    "Adam closure": lambda p: optim.Adam(p, lr=1e-3),
    "twice": lambda p: Twice(p, lr=0.01, momentum=0.9),
}
CLOSURES = ("closure", "Adam closure", "twice")
POLICIES: dict[str, Callable[[], Any]] = {
    "auto": sg.policies.auto,
    "clip_norm": lambda: sg.policies.clip_norm(0.8),
    "clip_norm wide": lambda: sg.policies.clip_norm(50.0),
    "steady": sg.policies.steady,
    "zclip": sg.policies.zclip,
    "agc": sg.policies.agc,
}
RECOVER: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "False": lambda: False,
    "every 7": lambda: sg.recover.rollback(every=7),
}


class Net(nn.Module):
    """Layers that can be replaced, batch norm, and a place for a parameter that joins."""

    def __init__(self, depth: int, *, normed: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 8), *[nn.Linear(8, 8) for _ in range(depth)]])
        self.norm = nn.BatchNorm1d(8) if normed else nn.Identity()
        self.head = nn.Linear(8, 1)
        self.extra: nn.Parameter | None = None

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        x = self.head(self.norm(x))
        return x if self.extra is None else x + self.extra


@dataclass(frozen=True)
class Program:
    """One training, told by its makings and by what happens at which step."""

    optimizer: str = "Adam"
    mode: str = "guard"
    policy: str = "auto"
    recover: str = "False"
    loss: str = "after"
    groups: str = "one"
    clips: str = "never"
    depth: int = 1
    normed: bool = False
    two: bool = False
    recorded: bool = False
    listens: bool = False
    late: bool = False
    steps: int = 140
    seed: int = 0
    drift: float = 1.0
    events: tuple[tuple[int, str], ...] = ()


@dataclass
class Sink:
    """What it was told, in order."""

    told: list[Any] = field(default_factory=list)
    found: list[Any] = field(default_factory=list)
    monitor: Monitor | None = None

    def reading(self, reading: Any, tensors: Any) -> None:
        self.told.append(
            ("reading", reading.step, reading.optimizer, repr(reading.total_norm), repr(reading.loss))
        )
        if self.monitor is not None:
            self.told.append(("asked", len(self.monitor.recent), len(self.monitor.findings)))

    def number(self, step: int, name: str, value: float) -> None:
        self.told.append(("number", step, name, repr(value)))

    def finding(self, finding: Any) -> None:
        self.found.append((finding.kind, finding.step, finding.where, finding.summary))

    def close(self) -> None:
        self.told.append(("close",))


class Clock:
    """Moves by a step's time where the training says so, and not by itself."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def conditions(*, closed: bool) -> Any:
    """A clock of our own; the short way closed where asked for."""
    clock, real, way = Clock(), time.perf_counter, ShortWay.open
    defaults = Spending.__init__.__defaults__
    time.perf_counter = clock  # type: ignore[assignment]
    Spending.__init__.__defaults__ = (clock,)
    if closed:
        ShortWay.open = lambda self: None  # type: ignore[method-assign]
    try:
        yield clock
    finally:
        time.perf_counter, ShortWay.open = real, way  # type: ignore[method-assign]
        Spending.__init__.__defaults__ = defaults
