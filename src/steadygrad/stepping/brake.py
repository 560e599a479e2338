"""A brake that recovery puts on after a rollback: a cap on the norm, a factor on the rate, both let go again.

It stands between the policy and the step, so a scheduler's rate and a policy's cap stay what they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steadygrad.measure import Measurement
from steadygrad.policies.base import Policy
from steadygrad.records import Incident, Reading

RATE_RETURN = 2.0 ** (1.0 / 50.0)
"""A halved rate is whole again after 50 clean steps: long enough to leave the bad region behind."""
CAP_RETURN = 1.03
"""The cap opens tenfold in 80 clean steps; by then it no longer touches ordinary steps, and goes."""
_OPEN = 10.0


class Brake:
    """What is held back for now.

    Attributes:
        max_norm: largest total norm let through; ``inf`` holds nothing back.
        rate: factor on the learning rate of every step.
    """

    def __init__(self) -> None:
        self.max_norm = math.inf
        self.rate = 1.0
        self._open = math.inf

    @property
    def on(self) -> bool:
        """Whether anything is held back."""
        return self.rate < 1.0 or self.max_norm < math.inf

    def put_on(self, max_norm: float, rate: float) -> None:
        """Hold the next steps back."""
        self.max_norm, self.rate = max_norm, rate
        self._open = _OPEN * max_norm

    def ease(self) -> None:
        """Let go a little, after a clean step."""
        self.rate = min(1.0, self.rate * RATE_RETURN)
        self.max_norm *= CAP_RETURN
        if self.max_norm > self._open:
            self.max_norm = math.inf


class BrakedPolicy(Policy):
    """A policy, and on top of it the brake.

    Args:
        inner: the policy that judges.
        brake: what recovery asks for.
    """

    def __init__(self, inner: Policy, brake: Brake) -> None:
        """Wrap."""
        self.inner = inner
        self.rewrites = inner.rewrites  # type: ignore[misc]
        self.brake = brake
        # Recovery reads the weights' norms to see what happened to them between two steps.
        self.needs_param_norms = True  # type: ignore[misc]

    def scale(self, measurement: Measurement) -> Tensor | None:
        """The smaller of the policy's factor and the brake's."""
        factor = self.inner.scale(measurement)
        max_norm = self.brake.max_norm
        own = self.inner.cap
        self.cap = own
        known = measurement.known_total
        if max_norm == math.inf or (known is not None and known <= max_norm):
            return factor
        self.cap = max_norm if own is None else min(own, max_norm)
        braked = torch.clamp(max_norm / measurement.total_norm, max=1.0)
        return braked if factor is None else torch.minimum(braked, factor)

    def leaves_alone_up_to(self, measurement: Measurement) -> float:
        """As far as the policy does, where nothing is held back."""
        return -math.inf if self.brake.on else self.inner.leaves_alone_up_to(measurement)

    def rewrite_(self, measurement: Measurement) -> Tensor | None:
        """The policy's own change."""
        return self.inner.rewrite_(measurement)

    def lr_factor(self, measurement: Measurement) -> float:
        """The policy's factor times the brake's."""
        return self.inner.lr_factor(measurement) * self.brake.rate

    def note(self) -> object:
        """The policy's own note."""
        return self.inner.note()

    def recall(self, note: object) -> None:
        """Give the policy its note back."""
        self.inner.recall(note)

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Let the policy learn."""
        return self.inner.learn(reading)

    def skipped(self, reading: Reading) -> tuple[Incident, ...]:
        """Let the policy know."""
        return self.inner.skipped(reading)
