"""`clip_value`: a fixed bound on every single element of the gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from steadygrad.measure import Measurement, settle_
from steadygrad.policies.base import Policy, require_positive
from steadygrad.policies.history import Tally
from steadygrad.records import Incident, Reading


class ClipValue(Policy):
    """Clamp every gradient element to a constant; see `clip_value`."""

    # One element in a million is enough for a step to count as scaled: a high share says nothing.
    always_on: ClassVar[bool] = True

    def __init__(self, clip_value: float) -> None:
        self.clip_value = require_positive("clip_value", "clip_value", clip_value)
        self._tally = Tally()

    @torch.no_grad()
    def rewrite_(self, measurement: Measurement) -> Tensor:
        """Clamp in place; returns ``min(1, clip_value / max |g|)``, 0-d: the largest element's factor, on this rank."""
        total_norm = measurement.total_norm
        limit = torch.full_like(total_norm, min(self.clip_value, torch.finfo(total_norm.dtype).max))
        if measurement.grad_scale is not None:
            limit = limit * measurement.grad_scale
        grads = [_coalesced_(grad) for grad in settle_(measurement)]
        values = [grad.values() if grad.is_sparse else grad for grad in grads]
        factor = _smallest_factor(values, limit)
        for value in values:
            _clamp_(value, limit)
        return factor

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Count the step; there is nothing else to learn."""
        if math.isfinite(reading.total_norm):
            self._tally.add(reading)
        return ()

    def explain(self) -> str:
        """In how many steps an element was clamped."""
        return f"{self!r}: {self._tally} (at least one element)." if self._tally.seen else ""

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"tally": self._tally.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._tally.load_state_dict(state["tally"])

    def __repr__(self) -> str:
        """The call that makes this policy."""
        return f"clip_value({self.clip_value!r})"


def clip_value(clip_value: float) -> ClipValue:
    """Bound every element of every gradient by a constant.

    Cuts off single wild coordinates and leaves all others alone, which turns the direction. An
    element is clamped by its modulus where it is complex, so its phase stays. Repeated indices of a
    sparse gradient are added up first, because only their sum is the gradient; on an accelerator
    that addition waits for the device. Of sharded parameters each rank clamps its own part, and the factor
    that is recorded is that of this part.

        g_i <- g_i * min(1, clip_value / |g_i|)

    Args:
        clip_value: largest modulus of an element, in the units of the gradient.

    Returns:
        The policy.

    Raises:
        PolicyError: ``clip_value`` is not a finite number above 0.

    Example:
        >>> clip_value(0.5)
        clip_value(0.5)

    Source: Mikolov 2012, Statistical language models based on neural networks (PhD thesis).
    """
    return ClipValue(clip_value)


def real_parts(values: Tensor) -> tuple[Tensor, ...]:
    """Views whose product with a real factor leaves even the sign of zeros alone where it is 1."""
    return (values.real, values.imag) if values.is_complex() else (values,)


def smallest(factors: Iterable[Tensor], like: Tensor) -> Tensor:
    """Smallest of some factors, 0-d, with the dtype and device of ``like``; 1 where there is none."""
    lowest = [factor.min().to(like) for factor in factors if factor.numel()]
    return torch.stack(lowest).min() if lowest else torch.ones_like(like)


def _coalesced_(grad: Tensor) -> Tensor:
    """Add up the repeated indices of a sparse gradient in place; others stay."""
    if grad.is_sparse and not grad.is_coalesced():
        grad.copy_(grad.coalesce())
    return grad


def _smallest_factor(values: Sequence[Tensor], limit: Tensor) -> Tensor:
    filled = [value for value in values if value.numel()]  # an empty tensor has no largest element
    peaks = torch._foreach_norm(filled, math.inf) if filled else ()
    tiny = torch.finfo(limit.dtype).tiny
    return smallest(((limit / peak.to(limit)).clamp(tiny, 1.0) for peak in peaks), limit)


def _clamp_(values: Tensor, limit: Tensor) -> None:
    if not values.is_complex():
        values.clamp_(-limit, limit)
        return
    factor = (limit / values.abs()).clamp_(max=1.0)
    for part in real_parts(values):
        part.mul_(factor)
