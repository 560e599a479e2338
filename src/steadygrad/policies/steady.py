"""A clip without a number to tune, always on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from steadygrad.errors import PolicyError
from steadygrad.policies.base import Policy
from steadygrad.policies.history import NormWindow, Tally
from steadygrad.policies.relative import RelativeStep, facts_of, shared_kind, single_rate
from steadygrad.policies.relative_update import adaptive_lr_factor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from steadygrad.measure import Measurement
    from steadygrad.records import FloatArray, Incident, Reading, TensorInfo

RHO = 0.03
"""Share of the weight norm one SGD update may move; the optimum of 13 workloads is flat in 0.02 to 0.06."""
BUDGET = 0.15
"""Share by which one update may change the whole function: ``L`` layers each moved by rho compound."""
RHO_FLOOR = 0.003
"""Smallest rho however deep the network: past 50 matrices depth has stopped to compound (skips, norms)."""
CALM = 5.0
"""How many times its tight budget a calm history may use; without it stable SGD pays up to 2 % regret."""
RHO_ADAPTIVE = 0.3
"""The same share for normalising optimizers, whose update is bounded by ``lr * sqrt(D)`` already."""

_CALM_ROUGHNESS = math.log(3.0)
_MIN_HISTORY = 5
_WINDOW = 32
_FULL_CREDIT = 100.0
_REFUND = 0.1


def steady() -> Steady:
    """A clip without a number: every step is held to a share of the weights it moves.

    SGD: the gradient is scaled so that its update, momentum played out, stays within
    ``rho_t * ||w||``, with ``rho = min(0.03, 0.15 / L)`` for ``L`` matrices, at least 0.003 (the experts of a
    layer count once, an adapter as one with its layer). A calm
    history of norms earns up to five times that; a rough one, or one that uses up its credit by
    living over the budget, earns nothing. When the rate jumps, the momentum already stored would
    jump with it, and no clip of the gradient can stop that: then the rate is lowered for the step.

    Normalising optimizers (Adam and its kin): only the gradient's direction matters, so every
    gradient is brought to norm 1 (also from below: here the factor may exceed 1) before it enters
    the moments. One outlier then weighs as much as any other step, instead of poisoning the second
    moment for a thousand steps. The rate is held to ``lr * sqrt(D) <= 0.3 * ||w||``.

    Without an optimizer the rate is unknown, and the cap is the median of the recent norms.

    Returns:
        The policy, for ``sg.guard(..., policy=...)``.

    Example:
        >>> import steadygrad as sg
        >>> sg.policies.steady()
        steady()

    References:
        The relative cap is the trust ratio of You et al., 2017, arXiv:1708.03888, used as a bound;
        norm-1 gradients before Adam are those of You et al., 2019, arXiv:1904.00962, sec. 3.
    """
    return Steady()


class Steady(Policy):
    """The policy built by `steady`."""

    needs_param_norms = True
    always_on = True

    def __init__(self) -> None:
        """See `steady`."""
        self._relative = RelativeStep()
        self._window = NormWindow(_WINDOW)
        self._credit = _FULL_CREDIT
        # By momentum: groups that forget faster have less room for what is stored.
        self._bounds: dict[float, float] = {}
        self._tight_cap: float | None = None
        self._momenta: tuple[float, ...] = ()
        self._undampened = 1.0
        self._tally = Tally()
        self._lowered = 0

    def __repr__(self) -> str:
        """The call that makes it."""
        return "steady()"

    @property
    def stored_momentum(self) -> float:
        """Bound on what the momentum buffers still carry into the next step."""
        return max((mu * self._bound(mu) for mu in self._momenta), default=0.0)

    def prepare(self, tensors: Sequence[TensorInfo], param_norms: FloatArray) -> None:
        """Meet the parameters."""
        self._relative.prepare(tensors, param_norms)

    def scale(self, measurement: Measurement) -> Tensor | None:
        """Factor for the step; see `steady`."""
        self.cap = self._tight_cap = None
        kind = shared_kind(measurement.groups)
        norm = measurement.total_norm
        if kind == "adaptive":
            self.cap = 1.0
            return torch.where(norm > 0.0, norm.reciprocal(), torch.ones_like(norm))
        if kind == "sgd" and self.aim(measurement) is not None:
            return self.factor(measurement)
        if not measurement.groups and len(self._window) >= _MIN_HISTORY:
            self.cap = math.exp(self._window.median())
            return torch.clamp(self.cap / norm, max=1.0)
        return None

    def aim(self, measurement: Measurement) -> float | None:
        """Work out the cap of an SGD step from what the host knows; None without weights or finite rates."""
        weight_norm, facts = self._relative.weight_norm, facts_of(measurement.groups)
        # A factor made of a rate that is NaN would carry it into the groups that are sound.
        if weight_norm is None or not all(map(math.isfinite, facts.rates)):
            self.cap = self._tight_cap = None
            return None
        tight = rho_of(self._relative.depth) * weight_norm / self._relative.rate(measurement)
        self._momenta, self._undampened = facts.momenta, facts.undampened
        self._tight_cap = tight
        self.cap = tight * self._calm_factor()
        return self.cap

    def factor(self, measurement: Measurement) -> Tensor:
        """Factor that holds an SGD step to the cap worked out by `aim`, 0-d, on the device."""
        if self.cap is None:
            raise PolicyError("steady().factor(): aim() comes first.")
        norm = measurement.total_norm
        if single_rate(measurement.groups) is None:
            # Groups of different rates: the cap was for the gradient's usual mix, this is its true one.
            norm = self._relative.reach(measurement) / self._relative.rate(measurement)
        return torch.clamp(self.cap / norm, max=1.0)

    def lr_factor(self, measurement: Measurement) -> float:
        """Below 1 when the rate outruns the weights, or jumps under a stored momentum."""
        if shared_kind(measurement.groups) != "sgd":
            return adaptive_lr_factor(self._relative, measurement, RHO_ADAPTIVE)
        if self.cap is None or self._relative.weight_norm is None:
            return 1.0
        if facts_of(measurement.groups).lr <= 0.0:
            return 1.0
        # A buffer after this step is at most what is stored plus a gradient at its cap; at a
        # constant rate and budget that never exceeds cap / (1 - mu), and the factor is exactly 1.
        entering, factor = self._undampened * self.cap, 1.0
        for mu in self._momenta:
            buffer, limit = mu * self._bound(mu) + entering, entering / max(1.0 - mu, 1e-3)
            if buffer > limit * (1.0 + 1e-9):
                factor = min(factor, limit / buffer)
        return factor

    def note(self) -> object:
        """The tight cap of the step, and what share of its gradient enters which momenta."""
        return self._tight_cap, self._momenta, self._undampened

    def recall(self, note: object) -> None:
        """Learn the next Reading by that cap and that momentum."""
        if isinstance(note, tuple):
            self._tight_cap, self._momenta, self._undampened = note

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Roughness, credit and stored momentum from one finite step."""
        self._relative.learn(reading)
        # SGD puts its first gradient into the momentum whole.
        entering = self._undampened if self._tally.seen else 1.0
        self._tally.add(reading)
        self._lowered += reading.lr_factor < 1.0
        norm = reading.total_norm
        if self._tight_cap is not None and len(self._window) >= _MIN_HISTORY:
            self._charge(1.0 if norm > self._tight_cap else -_REFUND)
        entering *= min(1.0, reading.clip_coef) * norm
        self._bounds = {mu: mu * self._bound(mu) + entering for mu in self._momenta}
        self._window.add(norm)
        return ()

    def skipped(self, reading: Reading) -> tuple[Incident, ...]:
        """A non-finite step costs credit."""
        del reading
        self._charge(1.0)
        return ()

    def explain(self) -> str:
        """How often which bound acted; empty before the first step."""
        if not self._tally.seen:
            return ""
        lowered = f", lowered the rate in {self._lowered}" if self._lowered else ""
        return f"{self!r}: {self._tally}{lowered}"

    def state_dict(self) -> dict[str, Any]:
        """Everything learnt."""
        return {
            "window": self._window.state_dict(),
            "credit": self._credit,
            "momentum_bounds": list(self._bounds.items()),
            "lowered": self._lowered,
            "tally": self._tally.state_dict(),
            "relative": self._relative.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._window.load_state_dict(state["window"])
        self._credit = float(state["credit"])
        self._bounds = {float(mu): float(bound) for mu, bound in state["momentum_bounds"]}
        self._lowered = int(state["lowered"])
        self._tally.load_state_dict(state["tally"])
        self._relative.load_state_dict(state["relative"])

    def _calm_factor(self) -> float:
        if len(self._window) < _MIN_HISTORY:
            return 1.0
        roughness = self._window.max() - self._window.median()
        calm = min(max(1.0 - roughness / _CALM_ROUGHNESS, 0.0), 1.0)
        return 1.0 + (CALM - 1.0) * calm * self._credit / _FULL_CREDIT

    def _bound(self, mu: float) -> float:
        """Bound on the buffers of a momentum; one that a schedule has just set goes on with the largest there was."""
        return self._bounds.get(mu, max(self._bounds.values(), default=0.0))

    def _charge(self, amount: float) -> None:
        self._credit = min(max(self._credit - amount, 0.0), _FULL_CREDIT)


def rho_of(depth: int) -> float:
    """Tight share of the weight norm one update may move, for so many matrices."""
    return max(min(RHO, BUDGET / depth), RHO_FLOOR)
