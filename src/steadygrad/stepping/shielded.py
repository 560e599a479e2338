"""A policy whose faults can't cost the run its guard."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from steadygrad.containment import Containment
from steadygrad.policies.base import Policy

if TYPE_CHECKING:
    from torch import Tensor

    from steadygrad.measure import Measurement
    from steadygrad.records import Incident, Reading

PART = "policy"


class ShieldedPolicy(Policy):
    """Calls a policy through a `Containment`: if it fails once, it is never asked again.

    Without it gradients are left alone, but non-finite steps are still skipped.

    Args:
        policy: the policy to call.
        containment: holds its faults back.
    """

    def __init__(self, policy: Policy, containment: Containment) -> None:
        """Wrap."""
        self.inner = policy
        self.rewrites = policy.rewrites  # type: ignore[misc]
        self.needs_param_norms = policy.needs_param_norms  # type: ignore[misc]
        self._containment = containment

    def scale(self, measurement: Measurement) -> Tensor | None:
        """The policy's factor; None once it has failed."""
        factor = self._containment.run(PART, self.inner.scale, measurement)
        self.cap = None if PART in self._containment.off else self.inner.cap
        return factor

    def leaves_alone_up_to(self, measurement: Measurement) -> float:
        """As far as the policy does; nothing once it has failed."""
        found = self._containment.run(PART, self.inner.leaves_alone_up_to, measurement)
        return -math.inf if found is None else found

    def rewrite_(self, measurement: Measurement) -> Tensor | None:
        """The policy's own change; nothing once it has failed."""
        return self._containment.run(PART, self.inner.rewrite_, measurement)

    def lr_factor(self, measurement: Measurement) -> float:
        """The policy's factor; 1 once it has failed."""
        factor = self._containment.run(PART, self.inner.lr_factor, measurement)
        return 1.0 if factor is None else factor

    def note(self) -> object:
        """Its own note; None once it has failed."""
        return self._containment.run(PART, self.inner.note)

    def recall(self, note: object) -> None:
        """Give it its note back, while it works."""
        self._containment.run(PART, self.inner.recall, note)

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Let it learn, while it works."""
        return self._containment.run(PART, self.inner.learn, reading) or ()

    def skipped(self, reading: Reading) -> tuple[Incident, ...]:
        """Let it know, while it works."""
        return self._containment.run(PART, self.inner.skipped, reading) or ()
