"""The default: a net that engages when a run loses its footing, and lets go when it is calm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from steadygrad.policies.base import Policy
from steadygrad.policies.footing import Footing
import steadygrad.policies.footing as FT
REACH=1.0
from steadygrad.policies.history import Tally
from steadygrad.policies.relative import RelativeStep, long_run_rate, shared_kind
from steadygrad.policies.relative_update import adaptive_lr_factor
from steadygrad.policies.steady import Steady
from steadygrad.records import Incident

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from steadygrad.measure import Measurement
    from steadygrad.records import FloatArray, Reading, TensorInfo

HOLD = 32
"""Steps the caps stay after the last sign of trouble; twice as long each time it comes back soon."""

_LONGEST_HOLD = 1024
_SOON = 8


def auto() -> Auto:
    return Auto()


class Auto(Policy):
    """The policy built by `auto`."""

    needs_param_norms = True

    def __init__(self) -> None:
        """See `auto`."""
        self._relative = RelativeStep()
        self._steady = Steady()
        self._footing = Footing()
        self._limit = math.inf
        self._steps = 0
        self._hold = HOLD
        self._engaged_until = 0
        self._engagements = 0
        self._tally = Tally()

    def __repr__(self) -> str:
        """The call that makes it."""
        return "auto()"

    @property
    def engaged(self) -> bool:
        """Whether the caps are on."""
        return self._steps < self._engaged_until

    def prepare(self, tensors: Sequence[TensorInfo], param_norms: FloatArray) -> None:
        """Meet the parameters."""
        self._relative.prepare(tensors, param_norms)
        self._steady.prepare(tensors, param_norms)
        gains = sum(len(t.shape) == 1 and t.name.endswith("weight") and t.trainable for t in tensors)
        self._depth = max(1, self._relative.depth - gains)

    def scale(self, measurement: Measurement) -> Tensor | None:
        """None or exactly 1 while the run is healthy, the capped factor from the first sign on."""
        held = self._held(measurement)
        if held is None:
            self.cap, self._limit = None, math.inf
            return None
        cap, scale = held
        self._limit = max(self._limit_of(measurement) / (FT.HYST if self.engaged and shared_kind(measurement.groups)=='sgd' else 1.0), cap)
        if self.engaged:
            self.cap = cap
            return scale
        self.cap = self._limit
        return torch.where(measurement.total_norm <= self._limit, 1.0, scale)

    def lr_factor(self, measurement: Measurement) -> float:
        """Below 1 when the rate alone outruns the weights, or jumps under a stored momentum."""
        if shared_kind(measurement.groups) != "sgd":
            return adaptive_lr_factor(self._relative, measurement, REACH)
        if self.engaged or self._momentum_runs_away(measurement):
            return self._steady.lr_factor(measurement)
        return 1.0

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Update the history from one finite step and look for signs of trouble."""
        was_engaged = self.engaged
        self._relative.learn(reading)
        self._steady.learn(reading)
        self._tally.add(reading)
        self._footing.add(reading.total_norm)
        self._steps += 1
        if reading.total_norm > self._limit:
            times = reading.total_norm / self._limit
            return self._engage(reading, was_engaged, f"the gradient norm is {times:.3g} x the limit")
        if was_engaged and not self.engaged:
            reason = f"calm for {self._hold} steps: caps off"
            return (Incident(reading.step, "release", reason, optimizer=reading.optimizer),)
        return ()

    def skipped(self, reading: Reading) -> tuple[Incident, ...]:
        return self._steady.skipped(reading)

    def _held(self, measurement: Measurement) -> tuple[float, Tensor] | None:
        """Cap and factor of the engaged state."""
        if shared_kind(measurement.groups) == "sgd":
            scale = self._steady.scale(measurement)
            return None if scale is None or self._steady.cap is None else (self._steady.cap, scale)
        cap = self._footing.typical()
        if cap == math.inf:
            return None
        return cap, torch.clamp(cap / measurement.total_norm, max=1.0)

    def _limit_of(self, measurement: Measurement) -> float:
        weight_norm = self._relative.weight_norm
        if weight_norm is None or shared_kind(measurement.groups) != "sgd":
            return self._footing.spike_limit()
        return self._footing.slip_limit(weight_norm / max(map(long_run_rate, measurement.groups)), self._depth)

    def _momentum_runs_away(self, measurement: Measurement) -> bool:
        weight_norm = self._relative.weight_norm
        if weight_norm is None:
            return False
        lr = max(group.lr for group in measurement.groups)
        return lr * self._steady.stored_momentum > REACH * weight_norm

    def _engage(self, reading: Reading, was_engaged: bool, why: str) -> tuple[Incident, ...]:
        if not was_engaged:
            soon = self._engagements > 0 and self._steps - self._engaged_until <= _SOON * self._hold
            self._hold = min(2 * self._hold, _LONGEST_HOLD) if soon else HOLD
            self._engagements += 1
        self._engaged_until = self._steps + self._hold
        if was_engaged:
            return ()
        reason = f"{why}: caps on until {self._hold} calm steps have passed"
        return (Incident(reading.step, "engage", reason, optimizer=reading.optimizer),)
