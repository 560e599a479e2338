"""The loss and the step it belongs to, judged together whichever of the two comes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from steadygrad.detect import COURSE, Context, Panel
from steadygrad.records import Finding, Reading, TensorInfo


class Course:
    """Runs the detectors that need the loss.

    A loss may be logged before its step, after it, or arrive from an accelerator when the next step has
    begun. So a Reading without one waits until the next Reading comes.

    Args:
        tell: receives what is found.
    """

    def __init__(self, tell: Callable[[Finding], None]) -> None:
        self._tell = tell
        self._panel: Panel | None = None
        self._waiting: Reading | None = None

    def step(self, reading: Reading, context: Context) -> None:
        """Take in a step.

        Args:
            reading: of the first optimizer: one loss isn't told once for each of several.
            context: what is known of it.
        """
        if self._panel is None:
            self._panel = Panel(context, COURSE, ())
        self._waiting = reading if reading.loss is None else None
        if reading.loss is not None:
            self._judge(reading)

    def loss(self, step: int, value: float) -> None:
        """Take in a loss that came after its step."""
        waiting = self._waiting
        if waiting is not None and waiting.step == step:
            self._waiting = None
            self._judge(replace(waiting, loss=value))

    def extend(self, tensors: Sequence[TensorInfo]) -> None:
        """Take note of parameters that joined the first optimizer."""
        if self._panel is not None:
            self._panel.extend(tensors)

    def _judge(self, reading: Reading) -> None:
        if self._panel is not None:
            for finding in self._panel.observe(reading):
                self._tell(finding)
