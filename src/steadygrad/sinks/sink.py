"""What every sink does; what a logger adds is only how to write."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from steadygrad.errors import UsageError
from steadygrad.records import Finding, Reading, TensorInfo
from steadygrad.sinks.numbers import StepNumbers

PREFIX = "steadygrad/"


class Sink(ABC):
    """Receives the steps, logged numbers and findings of one run.

    Args:
        every: steps between two sets of numbers. 10 keeps the cost small, and nothing is lost by it: a
            step that was skipped, clipped or isn't finite is always sent, and the run file has them all.
        worst: tensors with a curve of their own, the worst of each step; None is all of them.

    Raises:
        UsageError: an argument is out of range.
    """

    def __init__(self, *, every: int = 10, worst: int | None = 3) -> None:
        given: tuple[tuple[str, object, int], ...] = (
            ("every", every, 1),
            ("worst", 0 if worst is None else worst, 0),
        )
        for name, value, least in given:
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(
                    f"{type(self).__name__}({name}={value!r}): expected a whole number of at least {least}."
                )
        self._every = every
        self._numbers = StepNumbers(worst)

    def reading(self, reading: Reading, tensors: Sequence[TensorInfo]) -> None:
        """A step has ended."""
        remarkable = reading.skipped or reading.clipped or not math.isfinite(reading.total_norm)
        if remarkable or reading.step % self._every == 0:
            self._send(reading.step, self._numbers.of(reading, tensors))

    def number(self, step: int, name: str, value: float) -> None:
        """A number was logged."""
        if step % self._every == 0 or not math.isfinite(value):
            self._send(step, {name: value})

    def finding(self, finding: Finding) -> None:
        """Something was found."""
        self.write_finding(finding, as_markdown(finding))

    def close(self) -> None:  # noqa: B027 - most loggers end with the user's own run
        """The run has ended; nothing more comes."""

    def _send(self, step: int, values: Mapping[str, float]) -> None:
        self.write(step, {PREFIX + name: value for name, value in values.items()})

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the numbers of one step.

        Args:
            step: counted from 0.
            values: by their full names; NaN and Inf among them.
        """

    @abstractmethod
    def write_finding(self, finding: Finding, text: str) -> None:
        """Write one finding.

        Args:
            finding: the finding.
            text: the same in Markdown.
        """


def as_markdown(finding: Finding) -> str:
    """A finding for the text panel of a logger.

    Example:
        >>> print(as_markdown(Finding("loss_spike", "warning", 7, ("head",), "The loss rose.")))
        **warning: loss_spike at step 7**
        <BLANKLINE>
        The loss rose.
        <BLANKLINE>
        Where: head
    """
    parts = [f"**{finding.severity}: {finding.kind} at step {finding.step}**", finding.summary]
    if finding.where:
        parts.append("Where: " + ", ".join(finding.where[:4]))
    if finding.causes:
        parts.append("Likely causes:\n\n" + "\n".join(f"1. {cause}" for cause in finding.causes))
    if finding.remedies:
        parts.append("Try:\n\n" + "\n".join(f"1. {remedy}" for remedy in finding.remedies))
    return "\n\n".join(parts)
