"""`agc`: adaptive gradient clipping, each unit's gradient measured against its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor

from steadygrad.errors import PolicyError
from steadygrad.measure import Measurement, own_part, settle_, unit_norms
from steadygrad.policies.base import Policy, require_positive
from steadygrad.policies.clip_value import real_parts, smallest
from steadygrad.policies.history import Tally
from steadygrad.records import Incident, Reading

INIT_UNIT_NORM = 1 / math.sqrt(3)
"""Norm of one unit as PyTorch initialises it: U(-1/sqrt(n), 1/sqrt(n)) has this norm at any fan-in n."""


class AGC(Policy):
    """Bound each unit's gradient by a share of the unit's weight norm; see `agc`."""

    # Some unit among thousands is scaled in most steps; that is how the method works.
    always_on: ClassVar[bool] = True

    def __init__(
        self, clipping: float = 0.01, eps: float = INIT_UNIT_NORM, exclude: Sequence[str] = ()
    ) -> None:
        self.clipping = require_positive("agc", "clipping", clipping)
        self.eps = require_positive("agc", "eps", eps)
        self.exclude = _patterns(exclude)
        self._unmatched = set(self.exclude)
        self._tally = Tally()

    @torch.no_grad()
    def rewrite_(self, measurement: Measurement) -> Tensor:
        """Scale units in place; returns the smallest factor of any unit, 0-d."""
        # The measurement's own precision: float64 where a finite norm doesn't fit float32.
        dtype = measurement.norms.dtype
        weights, grads, parts = self._treated(measurement)
        wholes = [*weights, *grads]
        own = [_unit_norms(part, dtype) for part in [*map(own_part, weights), *parts]]
        norms = unit_norms(own, wholes)
        factors = [
            self._scale_units_(part, weight_norm, grad_norm, measurement)
            for part, weight_norm, grad_norm in zip(
                parts, norms[: len(parts)], norms[len(parts) :], strict=True
            )
        ]
        return smallest(factors, measurement.total_norm)

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Count the step; the weights themselves are this policy's memory."""
        if math.isfinite(reading.total_norm):
            self._tally.add(reading)
        return ()

    def explain(self) -> str:
        """In how many steps a unit was scaled, and whether an ``exclude`` pattern names nothing."""
        if not self._tally.seen:
            return ""
        lost = ", ".join(sorted(self._unmatched))
        hint = f" No tensor's name matches exclude: {lost}." if lost else ""
        return f"{self!r}: {self._tally} (at least one unit).{hint}"

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"tally": self._tally.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._tally.load_state_dict(state["tally"])

    def __repr__(self) -> str:
        """The call that makes this policy."""
        excluded = f", exclude={self.exclude!r}" if self.exclude else ""
        return f"agc({self.clipping!r}, eps={self.eps!r}{excluded})"

    def _treated(self, measurement: Measurement) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Weights, gradients and this rank's parts of the gradients, without what is left alone."""
        parts = settle_(measurement)
        if self._unmatched:  # other ranks may hold what a pattern names
            for tensor in measurement.tensors:
                self._is_excluded(tensor.name)
        chosen = [
            (measurement.params[i].detach(), grad, part)
            for i, grad, part in zip(measurement.holders(), measurement.grads, parts, strict=True)
            if not self._is_excluded(measurement.tensors[i].name)
            and grad.layout == torch.strided
            and grad.numel()
        ]
        return [one[0] for one in chosen], [one[1] for one in chosen], [one[2] for one in chosen]

    def _is_excluded(self, name: str) -> bool:
        own = name.rpartition(": ")[2]  # of a name that ranks hold different tensors under
        matching = {pattern for pattern in self.exclude if fnmatchcase(own, pattern)}
        self._unmatched -= matching
        return bool(matching)

    def _scale_units_(
        self, grad: Tensor, weight_norms: Tensor, grad_norms: Tensor, measurement: Measurement
    ) -> Tensor:
        max_norm = weight_norms.clamp(min=self.eps) * self.clipping
        if measurement.grad_scale is not None:
            max_norm = max_norm * measurement.grad_scale
        factor = (max_norm / grad_norms).clamp(torch.finfo(grad_norms.dtype).tiny, 1.0)
        for part in real_parts(grad):
            part.mul_(factor)
        return factor


def agc(clipping: float = 0.01, eps: float = INIT_UNIT_NORM, exclude: Sequence[str] = ()) -> AGC:
    """Bound each unit's gradient by a share of the norm of its weights.

    A plain gradient step then changes no unit by more than ``lr * clipping`` of its size. A unit is
    a row: everything that feeds one output (all dimensions but the first); tensors with 0 or 1
    dimension are one unit. Made for plain SGD; under Adam, which forgets the gradient's size, it
    only tames outliers. Sparse gradients are left alone: most of their rows are not there. Where ranks hold
    parts of one unit (a bias under FSDP2, a row under ``RowwiseParallel``) they add up its squares, which is one
    more small ``all_reduce`` a step, and the factor that is recorded is the smallest on this rank.

        g_i <- g_i * min(1, clipping * max(||w_i||, eps) / ||g_i||)

    Differs from the paper: ``eps`` is the norm of a freshly initialised unit instead of 1e-3. With
    1e-3 a zero-initialised unit (residual gain, output layer, bias) may move by ``lr * 1e-5`` only.

    Args:
        clipping: largest ratio of gradient norm to weight norm; 0.01 as in the paper, which found
            smaller ones better for larger batches.
        eps: weight norm below which a unit counts as this large.
        exclude: names or patterns (as in ``fnmatch``) of parameters to leave alone. The paper leaves
            out the final linear layer: ``exclude=("fc.*",)``.

    Returns:
        The policy.

    Raises:
        PolicyError: an argument is out of its range.

    Example:
        >>> agc(0.02, eps=1e-3, exclude=("head.*",))
        agc(0.02, eps=0.001, exclude=('head.*',))

    Source: Brock, De, Smith and Simonyan 2021, arXiv 2102.06171, section 4.
    """
    return AGC(clipping, eps, exclude)


def _patterns(exclude: Sequence[str]) -> tuple[str, ...]:
    try:
        given = tuple(exclude)
    except TypeError:  # nothing to go through, like None or a number
        given = (exclude,)  # type: ignore[assignment]
    if isinstance(exclude, str) or not all(isinstance(pattern, str) for pattern in given):
        raise PolicyError(
            f"agc(exclude={exclude!r}): exclude must be a sequence of names, like ('fc.*',), or () for none."
        )
    return given


def _unit_norms(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Norm of each row, shaped to broadcast against ``tensor``."""
    dims = tuple(range(1, tensor.ndim)) if tensor.ndim > 1 else None
    wide = dtype.to_complex() if tensor.is_complex() else dtype
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=dims, keepdim=True, dtype=wide)
    return norms
