"""A step between its two moments, and one whose numbers are under way to the host."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from steadygrad.measure import Measurement
from steadygrad.records import FloatArray, Reading
from steadygrad.stepping.judge import Verdict


@dataclass(slots=True)
class StepUnderWay:
    """What was measured, what was done, what is known so far.

    Attributes:
        measurement: of the gradients.
        verdict: what was done to them.
        reading: as far as it is known.
        probing: how far the step moves the parameters is being measured.
        param_norms: of the parameters before it, where they were measured.
    """

    measurement: Measurement
    verdict: Verdict
    reading: Reading
    probing: bool = False
    param_norms: Tensor | None = None

    def completed(self, updates: FloatArray | None, *, taken_back: bool) -> Reading:
        """The Reading in host memory, with what was added to it since the step began."""
        return replace(
            self.reading,
            param_norms=None if self.param_norms is None else self.param_norms.numpy(),
            update_norms=updates,
            skipped=self.reading.skipped or taken_back,
        )


@dataclass(frozen=True, slots=True)
class Sent:
    """What is known of a step whose numbers are under way to the host."""

    reading: Reading
    tensors: int
    has_extras: tuple[bool, bool]
    note: object
