"""The loss and the step it belongs to, judged together whichever of the two comes first."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from steadygrad.containment import Containment
from steadygrad.detect import COURSE, Context, Panel
from steadygrad.records import Finding, Reading, TensorInfo
from steadygrad.stepping import Lookout

PART = "detection by loss"
_USUAL = 16
"""Losses of which a new one is no larger than the largest: it may wait to be looked at."""


class Course:
    """Runs the detectors that need the loss.

    A loss may be logged before its step, after it, or arrive from an accelerator when the next step has
    begun. So a Reading without one waits until the next Reading comes. One whose loss is as the newest ones is looked
    at together with the next few.

    Args:
        containment: holds back faults of the detectors.
        tell: receives what is found.
    """

    def __init__(self, containment: Containment, tell: Callable[[Finding], None]) -> None:
        self._containment = containment
        self._tell = tell
        self._lookout: Lookout | None = None
        self._waiting: Reading | None = None
        self._newest: deque[float] = deque(maxlen=_USUAL)

    @property
    def usual_loss(self) -> float:
        """A loss that is no larger may wait to be looked at."""
        return max(self._newest, default=-math.inf)

    def step(self, reading: Reading, context: Context) -> None:
        """Take in a step.

        Args:
            reading: of the first optimizer: one loss isn't told once for each of several.
            context: what is known of it.
        """
        if self._lookout is None:
            self._lookout = Lookout(Panel(context, COURSE, ()), self._containment, self._tell, PART)
        self._waiting = reading if reading.loss is None else None
        if reading.loss is not None:
            self._judge(reading, reading.loss)

    def loss(self, step: int, value: float, reading: Reading | None = None) -> None:
        """Take in a loss that came after its step.

        Args:
            step: the step.
            value: the loss.
            reading: the Reading of the first optimizer that was given it, where there is one.
        """
        waiting = self._waiting
        if waiting is not None and waiting.step == step:
            self._waiting = None
            self._judge(replace(waiting, loss=value) if reading is None else reading, value)

    def extend(self, tensors: Sequence[TensorInfo]) -> None:
        """Take note of parameters that joined the first optimizer."""
        if self._lookout is not None:
            self._lookout.extend(tensors)

    def settle(self) -> None:
        """Look through what has waited."""
        if self._lookout is not None:
            self._lookout.settle()

    def _judge(self, reading: Reading, loss: float) -> None:
        if self._lookout is None:
            return
        waits = loss <= self.usual_loss and not reading.skipped
        if math.isfinite(loss):
            self._newest.append(loss)
        self._lookout.take(reading, waits=waits)
