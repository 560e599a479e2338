"""The default: a net that engages when a run loses its footing, and lets go when it is calm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from steadygrad.policies.base import Policy
from steadygrad.policies.ceiling import RateCeiling
from steadygrad.policies.depth import layers_in_a_row
from steadygrad.policies.footing import HEARD, RECENT, RECURRING, Footing
from steadygrad.policies.history import Tally
from steadygrad.policies.hold import HOLD, Hold
from steadygrad.policies.relative import GroupFacts, RelativeStep, facts_of, shared_kind, single_rate
from steadygrad.policies.relative_update import adaptive_lr_factor
from steadygrad.policies.steady import Steady
from steadygrad.records import Incident

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from steadygrad.measure import GroupHyper, Measurement
    from steadygrad.policies.hold import Change
    from steadygrad.records import FloatArray, Reading, TensorInfo

_SIGNS = ("too long for a start", "sudden rise", "rate too high", "square beyond float32")
_BEYOND = 1e18
"""Norm whose square leaves float32, or does so summed up over some hundred steps: Adam's second moment is Inf from then on
and the weights stand still. Such a gradient tells nothing but a direction."""
# An update as long as the weights themselves replaces them: a definition, not a tuned number.
_WHOLE = 1.0
# A single layer compounds nothing; 1/20 of a layer still stops what is absurd.
_SINGLE = 0.05
_TOO_HOT = (
    "for most of the last 32 steps the rate carried the weights a third of their own length and more at each"
)
_RECURRING = (
    f"{RECURRING} spikes within {RECENT} steps: they belong to the run, or to its data; from here on they are "
    f"scaled to {HEARD:g} x the typical norm instead of down to it"
)


def auto() -> Auto:
    """Do nothing until the run loses its footing, then hold it as `steady` does, then let go.

    Like anti-lock brakes. A healthy run is left alone: not one bit of its weights changes. Let
    ``reach`` be the length of an SGD update beside the weights, momentum played out, and
    ``growth`` the norm beside its typical value: the lower quartile of the last 80, or of the last 8
    where that is larger (a loss leaving its plateau is no accident). Any sign engages the caps, in
    the very step that shows it:

    * ``reach * depth > 0.75`` within the first 10 steps, which needs no history and so protects the
      first step; depth is the root of the number of matrices after the first that no normalisation
      follows: their changes compound, like independent ones;
    * ``growth * reach > 10``: the farther the step goes, the less it may rise suddenly;
    * ``reach * depth > 1/3`` in three quarters of the last 32 steps: a loss that leaves its plateau
      goes that far for a few steps, a rate that is too high for good.

    Engaged, the run is held to `steady`'s caps until 32 steps in a row were calm (no sign, and
    ``reach * depth < 0.1`` or nothing for the caps to do), or until 1000 steps have brought no new
    sign: an engagement that was wrong ends. One that turns out to be needed again within the next
    1000 steps has twice that patience. A stored momentum that would carry the weights farther than
    they are long, as after a jump of the rate, is slowed by lowering the rate for the step.

    All other optimizers normalise the gradient, so reach doesn't depend on it. There the sign is a
    sudden ``growth > 32``, and engaged means a cap at the typical norm. Spikes that come 8 times
    within 256 steps may be what the run is about, like a rare reward, or faulty batches: from then
    on the cap is 8 times the typical norm, so that they are heard and don't drown everything else.
    A norm above 1e18, whose square the second moment can't hold, is no matter of growth: it is brought to 1, and so are
    those after it while the run is engaged.
    A rate of Adam and its kin that alone would carry the weights farther than they are long is lowered
    for the step, and so is, from step 32 on, one that leaps to more than ten times the largest rate the run
    had 16 steps ago or earlier. SGD on parameters without any matrix, whose length says nothing, is treated in
    the same way, and its rate left alone.

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
        self._ceiling = RateCeiling()
        self._hold = Hold()
        self._depth = 1.0
        self._limit = math.inf
        self._unrest = math.inf
        self._span = math.inf
        self._by_reach = False
        self._quiet = -math.inf
        self._beyond = False
        self._rates_passed: Sequence[GroupHyper] | None = None
        self._tally = Tally()
        self._signs = dict.fromkeys(_SIGNS, 0)

    def __repr__(self) -> str:
        """The call that makes it."""
        return "auto()"

    @property
    def engaged(self) -> bool:
        """Whether the caps are on."""
        return self._hold.engaged

    def prepare(self, tensors: Sequence[TensorInfo], param_norms: FloatArray) -> None:
        """Meet the parameters."""
        self._rates_passed = None
        self._relative.prepare(tensors, param_norms)
        self._steady.prepare(tensors, param_norms)
        compounding = self._relative.depth - 1 - layers_in_a_row(tensors, _is_gain)
        self._depth = max(math.sqrt(max(compounding, 0)), _SINGLE)

    def scale(self, measurement: Measurement) -> Tensor | None:
        """None or exactly 1 while the run is healthy, the capped factor from the first sign on."""
        self.cap, self._limit, self._unrest, self._span = None, math.inf, math.inf, math.inf
        is_sgd = self._by_reach = self._measures_reach(measurement)
        cap = self._steady.aim(measurement) if is_sgd else self._norm_cap()
        if cap is None or cap == math.inf:
            return None
        # Below the cap nothing is scaled, so nothing is to be announced either.
        limit, unrest = self._limits_of(measurement)
        if is_sgd and measurement.groups is not self._rates_passed:
            # What is quiet at these rates is known when this step has been learnt, if it ever comes to that.
            self._quiet = -math.inf
            self._rates_passed = measurement.groups if single_rate(measurement.groups) is not None else None
        self._limit, self._unrest = max(limit, cap), max(unrest, cap)
        engaged = self._hold.engaged
        self.cap = cap if engaged else self._limit if self._limit != _BEYOND else None
        known = measurement.known_total
        if known is not None and known <= self._limit and not engaged:
            return None
        norm = measurement.total_norm
        scale = self._steady.factor(measurement) if is_sgd else _held(norm, cap)
        return scale if engaged else torch.where(norm <= self._limit, 1.0, scale)

    def leaves_alone_up_to(self, measurement: Measurement) -> float:
        """What no limit can fall below, whatever the next norms are, at rates that have been looked at."""
        return self._quiet if self._passes_rates(measurement) else -math.inf

    def lr_factor(self, measurement: Measurement) -> float:
        """Below 1 when the rate alone outruns the weights, or jumps under a stored momentum."""
        facts = facts_of(measurement.groups)
        if facts.kind == "adaptive":
            factor = self._ceiling.factor(facts.lr)
            if self._relative.has_matrix:
                factor = min(factor, adaptive_lr_factor(self._relative, measurement, _WHOLE))
            return factor
        if facts.kind != "sgd" or not self._relative.has_matrix:
            return 1.0
        if self.engaged or self._momentum_runs_away(measurement):
            return self._steady.lr_factor(measurement)
        return 1.0

    def note(self) -> object:
        """The limits of the step, at its own rate."""
        return (self._limit, self._unrest, self._span, self._by_reach), self._steady.note()

    def recall(self, note: object) -> None:
        """Judge the next Reading by those limits."""
        if isinstance(note, tuple):
            (self._limit, self._unrest, self._span, self._by_reach), steadys = note
            self._steady.recall(steadys)

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Update the history from one finite step and look for signs of trouble."""
        if reading.param_norms is not None:
            self._rates_passed = None
        self._relative.learn(reading)
        self._steady.learn(reading)
        self._ceiling.add(reading.lr, reading.lr_factor)
        self._tally.add(reading)
        footing, total = self._footing, reading.total_norm
        was_recurring = footing.recurring
        reach, slips = total / self._span * self._depth, total > self._limit
        beyond = slips and not self._by_reach and total > _BEYOND
        self._beyond |= beyond
        if slips:
            self._signs[_SIGNS[3 if beyond else 0 if footing.too_long_for_a_start(reach) else 1]] += 1
        footing.add(total, reach)
        hot = not slips and footing.hot
        self._signs[_SIGNS[2]] += hot
        change = self._hold.add(
            sign=slips or hot,
            unrest=total > self._unrest,
            lowered=reading.lr_factor < 1.0,
        )
        self._beyond &= self._hold.engaged
        self._quiet = self._quiet_norm()
        told = () if change is None else (self._tell(change, reading),)
        if footing.recurring and not was_recurring and not self._by_reach:
            return *told, Incident(reading.step, "engage", _RECURRING, optimizer=reading.optimizer)
        return told

    def skipped(self, reading: Reading) -> tuple[Incident, ...]:
        """A non-finite step: skipping it was enough, the finite ones say whether the run is calm."""
        return self._steady.skipped(reading)

    def explain(self) -> str:
        """How often it engaged, by which signs, and acted; empty before the first step."""
        if not self._tally.seen:
            return ""
        count = self._hold.engagements
        times = "once" if count == 1 else f"{count} times"
        state = "on now" if self.engaged else "off now"
        signs = ", ".join(f"{name} {number}" for name, number in self._signs.items() if number)
        by = f" (steps with a sign: {signs})" if signs else ""
        lowered = f", lowered the rate in {self._hold.lowered}" if self._hold.lowered else ""
        return f"{self!r}: engaged {times}, {state}{by}; {self._tally}{lowered}"

    def state_dict(self) -> dict[str, Any]:
        """Everything learnt."""
        return {
            "footing": self._footing.state_dict(),
            "ceiling": self._ceiling.state_dict(),
            "hold": self._hold.state_dict(),
            "tally": self._tally.state_dict(),
            "signs": dict(self._signs),
            "beyond": self._beyond,
            "steady": self._steady.state_dict(),
            "relative": self._relative.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._footing.load_state_dict(state["footing"])
        self._ceiling.load_state_dict(state["ceiling"])
        self._hold.load_state_dict(state["hold"])
        self._tally.load_state_dict(state["tally"])
        self._signs = dict.fromkeys(_SIGNS, 0) | state.get("signs", {})
        self._steady.load_state_dict(state["steady"])
        self._relative.load_state_dict(state["relative"])
        self._beyond = bool(state.get("beyond", False))
        self._quiet, self._rates_passed = -math.inf, None

    def _tell(self, change: Change, reading: Reading) -> Incident:
        slips = reading.total_norm > self._limit
        why = (
            f"the gradient norm is {reading.total_norm / self._limit:.3g} x what is safe"
            if slips
            else _TOO_HOT
        )
        if self._beyond and slips:
            why = f"the gradient norm is {reading.total_norm:.3g}, whose square float32 and so the optimizer's state can't hold"
        reasons = {
            "engage": f"{why}: caps on until {HOLD} calm steps have passed",
            "lower": "the learning rate would carry the weights farther than they are long, or is far above all "
            f"it has been: it is multiplied by {reading.lr_factor:.3g} for the step, and by as much as needed from here on",
            "calm": f"calm for {HOLD} steps: caps off",
            "patience": f"not calm, but no new sign in {self._hold.waited} steps: caps off",
        }
        action = "release" if change in {"calm", "patience"} else "engage"
        return Incident(reading.step, action, reasons[change], optimizer=reading.optimizer)

    def _passes_rates(self, measurement: Measurement) -> bool:
        """Whether the rates are lowered by nothing, as `lr_factor` sees it; worked out once while they stay."""
        groups = measurement.groups
        if groups is self._rates_passed:
            return True
        facts = facts_of(groups)
        # Of an SGD step what is far depends on its rate: `scale` must have seen it.
        if facts.kind != "adaptive" or not self._ceiling.surely_allows(facts.lr):
            return False
        if self._relative.has_matrix and adaptive_lr_factor(self._relative, measurement, _WHOLE) < 1.0:
            return False
        self._rates_passed = groups
        return True

    def _quiet_norm(self) -> float:
        """Norm up to which the next steps can show no sign, whatever their norms are."""
        if self._hold.engaged:
            return -math.inf
        if not self._by_reach:
            # The limit as it was worked out last is what they will be judged by.
            return min(self._footing.least_spike_limit(), _BEYOND, self._limit)
        facts = None if self._rates_passed is None else facts_of(self._rates_passed)
        if facts is None or facts.rate is None or self._relative.weight_norm is None:
            return -math.inf
        if self._steady.stored_momentum > self._most_stored(facts, facts.rate, self._relative.weight_norm):
            return -math.inf
        # What gradients that small add to the momentum can't come near that: they are a third of a step as long as the weights.
        return min(self._footing.least_slip_limit(self._span, self._depth), self._limit)

    def _norm_cap(self) -> float:
        """Cap of a gradient whose size the optimizer forgets."""
        return 1.0 if self._beyond else min(self._footing.spike_cap(), _BEYOND)

    def _measures_reach(self, measurement: Measurement) -> bool:
        """Whether a step's length follows from the gradient, and the weights say what is long."""
        return self._relative.has_matrix and shared_kind(measurement.groups) == "sgd"

    def _limits_of(self, measurement: Measurement) -> tuple[float, float]:
        """Total norm above which this step shows trouble, and that above which the run isn't calm."""
        weight_norm = self._relative.weight_norm
        if weight_norm is None or not self._by_reach:
            spike = min(self._footing.spike_limit(), _BEYOND)
            return spike, 1.0 if self._beyond else spike
        span = weight_norm / self._relative.rate(measurement)
        self._span = span
        slip = self._footing.slip_limit(span, self._depth)
        return slip, min(slip, self._footing.calm_limit(span, self._depth))

    def _momentum_runs_away(self, measurement: Measurement) -> bool:
        """Whether the stored momentum alone would carry the weights farther than they are long."""
        weight_norm = self._relative.weight_norm
        if weight_norm is None:
            return False
        most = self._most_stored(facts_of(measurement.groups), self._relative.rate(measurement), weight_norm)
        return self._steady.stored_momentum > most

    def _most_stored(self, facts: GroupFacts, rate: float, weight_norm: float) -> float:
        """Momentum that alone would carry the weights as far as they are long."""
        lr = rate * (1.0 - facts.momentum) / max(facts.undampened, 1e-3) * min(self._depth, 1.0)
        return _WHOLE * weight_norm / lr if lr > 0.0 else math.inf


def _held(norm: Tensor, cap: float) -> Tensor:
    """Factor that brings a norm down to the cap, or to 1 where its square leaves float32, 0-d."""
    return torch.where(norm > _BEYOND, norm.reciprocal(), torch.clamp(cap / norm, max=1.0))


def _is_gain(tensor: TensorInfo) -> bool:
    """Whether this is the gain of a normalisation layer, behind which a layer's scale is lost."""
    return tensor.trainable and len(tensor.shape) == 1 and tensor.name.endswith("weight")
