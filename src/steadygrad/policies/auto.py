"""The default: a net that engages when a run loses its footing, and lets go when it is calm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from steadygrad.policies.base import Policy
from steadygrad.policies.footing import Footing
from steadygrad.policies.history import Tally
from steadygrad.policies.relative import RelativeStep, shared_kind
from steadygrad.policies.relative_update import adaptive_lr_factor
from steadygrad.policies.steady import Steady
from steadygrad.records import Incident

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from steadygrad.measure import Measurement
    from steadygrad.records import FloatArray, Reading, TensorInfo

HOLD = 32
"""Steps the caps stay after the last sign; 16 to 256 differ by noise only, and short is cheap if wrong."""

# An update as long as the weights themselves replaces them: a definition, not a tuned number.
_WHOLE = 1.0
# A single layer compounds nothing; 1/20 of a layer still stops what is absurd.
_SINGLE = 0.05


def auto() -> Auto:
    """Do nothing until the run loses its footing, then hold it as `steady` does, then let go.

    Like anti-lock brakes. A healthy run is left alone: not one bit of its weights changes. Let
    ``reach`` be the length of an SGD update beside the weights, momentum played out, and
    ``growth`` the norm beside its typical value, the lower quartile of the last 128. Either sign
    engages the caps, in the very step that shows it:

    * ``reach * depth > 3``, which needs no history and so protects the first step; depth is the
      root of the number of matrices after the first that no normalisation follows: their changes
      compound, like independent ones;
    * ``growth * reach > 10``: the farther the step goes, the less it may rise suddenly.

    Engaged, the run is held to `steady`'s caps until 32 steps in a row were calm: no sign, and
    ``reach * depth < 0.1`` or nothing for the caps to do. A stored momentum that would carry the
    weights farther than they are long, as after a jump of the rate, is slowed by lowering the rate
    for the step.

    All other optimizers normalise the gradient, so reach doesn't depend on it. There the sign is a
    sudden ``growth > 32``, and engaged means a cap at the typical norm. A rate that alone would
    carry the weights farther than they are long is lowered for the step.

    Only ratios are compared: multiplying the loss (and dividing SGD's rate) by a number changes
    nothing. A non-finite step is skipped by the guard and is no sign by itself. Two things `auto`
    can't see: a network that learns badly with steps of ordinary size, and an outlier in the very
    first steps of Adam, which may be the usual size.

    Returns:
        The policy, for ``sg.guard(..., policy=...)``; it is also the default there.

    Example:
        >>> import steadygrad as sg
        >>> sg.policies.auto()
        auto()

    References:
        Pascanu et al., On the difficulty of training recurrent neural networks, 2013,
        arXiv:1211.5063, sec. 3.2 (what a clip is for); the caps are those of `steady`.
    """
    return Auto()


class Auto(Policy):
    """The policy built by `auto`."""

    needs_param_norms = True

    def __init__(self) -> None:
        """See `auto`."""
        self._relative = RelativeStep()
        self._steady = Steady()
        self._footing = Footing()
        self._depth = 1.0
        self._limit = math.inf
        self._steps = 0
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
        compounding = self._relative.depth - 1 - sum(map(_is_gain, tensors))
        self._depth = max(math.sqrt(max(compounding, 0)), _SINGLE)

    def scale(self, measurement: Measurement) -> Tensor | None:
        """None or exactly 1 while the run is healthy, the capped factor from the first sign on."""
        self.cap, self._limit = None, math.inf
        is_sgd = shared_kind(measurement.groups) == "sgd"
        cap = self._steady.aim(measurement) if is_sgd else self._footing.typical()
        if cap is None or cap == math.inf:
            return None
        # Below the cap nothing is scaled, so nothing is to be announced either.
        self._limit = max(self._limit_of(measurement), cap)
        self.cap = cap if self.engaged else self._limit
        known = measurement.known_total
        if known is not None and known <= self._limit and not self.engaged:
            return None
        norm = measurement.total_norm
        scale = self._steady.factor(measurement) if is_sgd else torch.clamp(cap / norm, max=1.0)
        return scale if self.engaged else torch.where(norm <= self._limit, 1.0, scale)

    def lr_factor(self, measurement: Measurement) -> float:
        """Below 1 when the rate alone outruns the weights, or jumps under a stored momentum."""
        if shared_kind(measurement.groups) != "sgd":
            return adaptive_lr_factor(self._relative, measurement, _WHOLE)
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
            self._engaged_until = self._steps + HOLD
        if self.engaged and not was_engaged:
            self._engagements += 1
            times = reading.total_norm / self._limit
            why = f"the gradient norm is {times:.3g} x what is safe: caps on until {HOLD} calm steps have passed"
            return (Incident(reading.step, "engage", why, optimizer=reading.optimizer),)
        if was_engaged and not self.engaged:
            why = f"calm for {HOLD} steps: caps off"
            return (Incident(reading.step, "release", why, optimizer=reading.optimizer),)
        return ()

    def skipped(self, reading: Reading) -> tuple[Incident, ...]:
        """A non-finite step: skipping it was enough, the finite ones say whether the run is calm."""
        return self._steady.skipped(reading)

    def explain(self) -> str:
        """How often it engaged and acted; empty before the first step."""
        if not self._tally.seen:
            return ""
        times = "once" if self._engagements == 1 else f"{self._engagements} times"
        state = "on now" if self.engaged else "off now"
        return f"{self!r}: engaged {times}, {state}; {self._tally}"

    def state_dict(self) -> dict[str, Any]:
        """Everything learnt."""
        return {
            "footing": self._footing.state_dict(),
            "steps": self._steps,
            "engaged_until": self._engaged_until,
            "engagements": self._engagements,
            "tally": self._tally.state_dict(),
            "steady": self._steady.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._footing.load_state_dict(state["footing"])
        self._steps = int(state["steps"])
        self._engaged_until = int(state["engaged_until"])
        self._engagements = int(state["engagements"])
        self._tally.load_state_dict(state["tally"])
        self._steady.load_state_dict(state["steady"])

    def _limit_of(self, measurement: Measurement) -> float:
        """Total norm above which this step shows trouble."""
        weight_norm = self._relative.weight_norm
        if weight_norm is None or shared_kind(measurement.groups) != "sgd":
            return self._footing.spike_limit()
        span = weight_norm / self._relative.rate(measurement)
        limit = self._footing.unrest_limit if self.engaged else self._footing.slip_limit
        return limit(span, self._depth)

    def _momentum_runs_away(self, measurement: Measurement) -> bool:
        """Whether the stored momentum alone would carry the weights farther than they are long."""
        weight_norm = self._relative.weight_norm
        if weight_norm is None:
            return False
        lr = self._relative.rate(measurement) * (1.0 - max(group.momentum for group in measurement.groups))
        return lr * self._steady.stored_momentum * min(self._depth, 1.0) > _WHOLE * weight_norm


def _is_gain(tensor: TensorInfo) -> bool:
    """Whether this is the gain of a normalisation layer, behind which a layer's scale is lost."""
    return tensor.trainable and len(tensor.shape) == 1 and tensor.name.endswith("weight")
