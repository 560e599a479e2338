"""A policy in a loop that clips by itself right after: it judges the step that is going to be made.

Norms are measured before the loop's clip, which would hide where a fault began. But a step is as long
as that clip leaves it: judged by the norms before, a healthy run that is held by its own clip would be
held a second time.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steadygrad.measure import Measurement
from steadygrad.policies.base import Policy
from steadygrad.records import Incident, Reading


class BoundedPolicy(Policy):
    """Shows a policy the norms as the loop's own clip will leave them.

    Args:
        inner: the policy that judges.

    Attributes:
        bound: total norm that the loop is about to clip to; infinite where it doesn't.
    """

    def __init__(self, inner: Policy) -> None:
        """Wrap."""
        self.inner = inner
        self.rewrites = inner.rewrites  # type: ignore[misc]
        self.needs_param_norms = inner.needs_param_norms  # type: ignore[misc]
        self.bound = math.inf
        self._of_reading = math.inf

    def scale(self, measurement: Measurement) -> Tensor | None:
        """The policy's factor on top of the loop's; 1 where the policy has nothing to add."""
        self._of_reading = self.bound
        coef = self._coef(measurement)
        factor = self.inner.scale(measurement if coef is None else _scaled(measurement, coef))
        self.cap = self.inner.cap
        if factor is None or coef is None:
            return factor
        return torch.where(factor.min() < 1.0, factor * coef, torch.ones_like(factor))

    def leaves_alone_up_to(self, measurement: Measurement) -> float:
        """As far as the policy does. Readings that it is told of late are all taken to be of one bound."""
        if self.bound != self._of_reading:
            return -math.inf
        most = self.inner.leaves_alone_up_to(measurement)
        return math.inf if self.bound <= most else most

    def rewrite_(self, measurement: Measurement) -> Tensor | None:
        """The policy's own change."""
        return self.inner.rewrite_(measurement)

    def lr_factor(self, measurement: Measurement) -> float:
        """The policy's factor."""
        coef = self._coef(measurement)
        return self.inner.lr_factor(measurement if coef is None else _scaled(measurement, coef))

    def note(self) -> object:
        """The policy's own note, and the bound that held for it."""
        return self.inner.note(), self.bound

    def recall(self, note: object) -> None:
        """Give the policy its note back."""
        own, self._of_reading = note if isinstance(note, tuple) else (note, math.inf)
        self.inner.recall(own)

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Let the policy learn from the norms that it was shown."""
        total = reading.total_norm
        if total <= self._of_reading:
            return self.inner.learn(reading)
        coef = self._of_reading / total
        return self.inner.learn(replace(reading, norms=reading.norms * coef, total_norm=total * coef))

    def skipped(self, reading: Reading) -> tuple[Incident, ...]:
        """Tell the policy of a step that was left out."""
        return self.inner.skipped(reading)

    def _coef(self, measurement: Measurement) -> Tensor | None:
        known = measurement.known_total
        if self.bound == math.inf or (known is not None and known <= self.bound):
            return None
        return torch.clamp(self.bound / measurement.total_norm, max=1.0)


def _scaled(measurement: Measurement, coef: Tensor) -> Measurement:
    known: Any = measurement.known_total
    return replace(
        measurement,
        norms=measurement.norms * coef,
        total_norm=measurement.total_norm * coef,
        known_total=None if known is None else known * float(coef),
    )
