"""Cap a step at a share of the weights' own size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from steadygrad.policies.base import Policy, require_positive
from steadygrad.policies.history import Tally
from steadygrad.policies.relative import RelativeStep, shared_kind, single_rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from steadygrad.measure import Measurement
    from steadygrad.records import FloatArray, Incident, Reading, TensorInfo


def relative_update(max_ratio: float = 0.03) -> RelativeUpdate:
    """Never move the weights by more than a share of their own norm.

    It needs no history, so it protects the first step, where every method that learns a typical
    norm is blind; and it is free of the loss's scale, which a constant cap is not.

    For SGD the gradient is scaled so that ``||lr / (1 - mu) * g|| <= max_ratio * ||w||``, with the
    momentum ``mu`` played out in full. For optimizers that normalise the gradient (Adam and its
    kin), whose update is about ``lr`` for each of the ``D`` elements, the rate is lowered for the
    step so that ``lr * sqrt(D) <= max_ratio * ||w||``.

    Args:
        max_ratio: largest update as a share of the weight norm. The best value of 13 small
            workloads is flat between 0.02 and 0.06.

    Returns:
        The policy, for ``sg.guard(..., policy=...)``.

    Raises:
        PolicyError: ``max_ratio`` is not a finite number above 0.

    Example:
        >>> import steadygrad as sg
        >>> sg.policies.relative_update(0.05)
        relative_update(max_ratio=0.05)

    References:
        You et al., Large Batch Training of Convolutional Networks, 2017, arXiv:1708.03888, sec. 4
        (the trust ratio, there per layer). Global, and as a cap rather than a rate, here.
    """
    return RelativeUpdate(max_ratio)


class RelativeUpdate(Policy):
    """The policy built by `relative_update`."""

    needs_param_norms = True

    def __init__(self, max_ratio: float = 0.03) -> None:
        """See `relative_update`."""
        self.max_ratio = require_positive("relative_update", "max_ratio", max_ratio)
        self._relative = RelativeStep()
        self._tally = Tally()

    def __repr__(self) -> str:
        """The call that makes it."""
        return f"relative_update(max_ratio={self.max_ratio:g})"

    def prepare(self, tensors: Sequence[TensorInfo], param_norms: FloatArray) -> None:
        """Meet the parameters."""
        self._relative.prepare(tensors, param_norms)

    def scale(self, measurement: Measurement) -> Tensor | None:
        """``min(1, max_ratio * w / reach)`` for SGD, None for normalising optimizers."""
        weight_norm = self._relative.weight_norm
        self.cap = None
        if weight_norm is None or shared_kind(measurement.groups) != "sgd":
            return None
        allowed = self.max_ratio * weight_norm
        rate = single_rate(measurement.groups)
        self.cap = None if rate is None else allowed / rate
        return torch.clamp(allowed / self._relative.reach(measurement), max=1.0)

    def lr_factor(self, measurement: Measurement) -> float:
        """``min(1, max_ratio * w / (lr * sqrt(D)))`` for normalising optimizers."""
        return adaptive_lr_factor(self._relative, measurement, self.max_ratio)

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Take in the newest parameter norms."""
        self._relative.learn(reading)
        self._tally.add(reading)
        return ()

    def explain(self) -> str:
        """How often it acted; empty before the first step."""
        return f"{self!r}: {self._tally}" if self._tally.seen else ""

    def state_dict(self) -> dict[str, Any]:
        """The counts, and who had the gradient; the weights speak for themselves."""
        return {"tally": self._tally.state_dict(), "relative": self._relative.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._tally.load_state_dict(state["tally"])
        self._relative.load_state_dict(state["relative"])


def adaptive_lr_factor(relative: RelativeStep, measurement: Measurement, max_ratio: float) -> float:
    """Factor for the rate of a normalising optimizer: ``min(1, max_ratio * w / (lr * sqrt(D)))``.

    Where groups have rates of their own, ``lr * sqrt(D)`` is the root of the sum of their squares: a
    high rate for the biases alone, as in YOLO's warm-up, carries the weights nowhere.
    """
    if relative.weight_norm is None or shared_kind(measurement.groups) != "adaptive":
        return 1.0
    reach = relative.longest(measurement)
    return min(1.0, max_ratio * relative.weight_norm / reach) if reach > 0.0 else 1.0
