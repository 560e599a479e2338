"""How large a step is beside the weights: the one measure of danger that needs no history.

SGD with momentum ``mu`` moves, in the long run, by ``reach = ||lr / (1 - mu) * g||``, less where the
momentum is dampened. Set beside
``w = ||weights||`` it is free of the loss's scale: multiply the loss by s and divide the rate by s, and
``reach / w`` is the same.

Shape legend: P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from steadygrad.policies.depth import is_adapter, layers_in_a_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from steadygrad.measure import GroupHyper, Measurement
    from steadygrad.measure.hyper import Kind
    from steadygrad.records import FloatArray, Reading, TensorInfo

_MATRIX_DIMS = 2
# A rate of zero (first step of a warm-up) allows any gradient; this keeps the division defined.
_TINY_RATE = 1e-38


class RelativeStep:
    """Weights on one side, the step on the other.

    The norm of a matrix counts at least as much as torch's default initialisation would give it,
    ``sqrt(fan_out / 3)``: a layer that starts at zero must be allowed to leave zero. Embeddings (far
    more rows than columns) and 1-d tensors have no such floor. A set without any matrix (a few
    coefficients, gains, log-variances) says nothing about the size it is going to have: there each
    tensor counts as if its elements were 1, at least.

    Attributes:
        weight_norm: ``w`` as last seen; None before the parameters were met.
        depth: number of trainable tensors of two or more dimensions, at least 1; without experts beside
            others, and an adapter as one with its layer.
        has_matrix: whether there is any.
        numel: number of trainable elements.
    """

    def __init__(self) -> None:
        self.weight_norm: float | None = None
        self.depth = 1
        self.has_matrix = False
        self.numel = 1
        self._floors: FloatArray = np.zeros(0, np.float32)
        self._rates: tuple[tuple[float, ...], Tensor] | None = None
        self._group_of: NDArray[np.intp] | None = None
        self._shares: list[float] | None = None
        self._numels: NDArray[np.float64] = np.zeros(0)
        self._numels_by_group: list[float] | None = None

    def prepare(self, tensors: Sequence[TensorInfo], param_norms: FloatArray) -> None:
        """Meet the parameters."""
        trainable = [tensor for tensor in tensors if tensor.trainable]
        self.has_matrix = any(map(_is_matrix, tensors))
        self.depth = max(1, layers_in_a_row(tensors, _is_matrix))
        self.numel = max(1, sum(tensor.numel for tensor in trainable))
        self._numels = np.array([tensor.numel * tensor.trainable for tensor in tensors], np.float64)
        self._numels_by_group = None
        self._floors = np.array(_floors_of(tensors), np.float32)
        self._rates = self._group_of = self._shares = None
        self._weigh(param_norms)

    def learn(self, reading: Reading) -> None:
        """Take in the newest parameter norms, where the Reading has them, and who has the gradient."""
        if reading.param_norms is not None:
            self._weigh(reading.param_norms)
        if (
            self._group_of is not None
            and len(self._group_of) == len(reading.norms)
            and reading.total_norm > 0.0
        ):
            parts = (reading.norms / reading.total_norm).astype(np.float64)
            self._shares = np.bincount(self._group_of, weights=parts * parts).tolist()

    def state_dict(self) -> dict[str, Any]:
        """What was learnt from Readings; the weights speak for themselves."""
        return {"shares": None if self._shares is None else list(self._shares)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, after `prepare`."""
        shares = state["shares"]
        self._shares = None if shares is None else [float(share) for share in shares]

    def reach(self, measurement: Measurement) -> Tensor:
        """``||lr / (1 - mu) * g||`` of the step, 0-d, on the device."""
        single = single_rate(measurement.groups)
        if single is not None:
            return measurement.total_norm * single
        reach: Tensor = torch.linalg.vector_norm(measurement.norms * self._rates_of(measurement))
        return reach

    def longest(self, measurement: Measurement) -> float:
        """Length of a normalised update whose every element is the rate of its group: ``||lr||``."""
        groups, facts = measurement.groups, facts_of(measurement.groups)
        if facts.same_lr or len(self._numels) != len(measurement.group_of):
            return facts.lr * math.sqrt(self.numel)
        if self._numels_by_group is None:
            places = np.asarray(measurement.group_of, np.intp)
            found = np.bincount(places, weights=self._numels, minlength=len(groups))
            self._numels_by_group = [float(numel) for numel in found]
        squares = [group.lr**2 * numel for group, numel in zip(groups, self._numels_by_group, strict=False)]
        return math.sqrt(sum(squares))

    def rate(self, measurement: Measurement) -> float:
        """Long-run rate of the gradient as a whole, a host number: ``reach`` is about ``rate * norm``.

        Groups of different rates are weighed by the part of the gradient they had in the last
        Reading; before the first one the largest rate counts.
        """
        single = single_rate(measurement.groups)
        if single is not None:
            return single
        if self._group_of is None:
            self._group_of = np.asarray(measurement.group_of, np.intp)
        rates = facts_of(measurement.groups).rates
        if self._shares is None:
            return max(rates)
        weighed = sum(share * rate * rate for share, rate in zip(self._shares, rates, strict=False))
        return max(math.sqrt(weighed), min(rates))

    def _rates_of(self, measurement: Measurement) -> Tensor:
        rates, norms = facts_of(measurement.groups).rates, measurement.norms
        if self._rates is None or self._rates[0] != rates or len(self._rates[1]) != len(measurement.params):
            each = [rates[index] for index in measurement.group_of]
            self._rates = (rates, torch.tensor(each, dtype=norms.dtype).to(norms.device, non_blocking=True))
        return self._rates[1]

    def _weigh(self, param_norms: FloatArray) -> None:
        if len(param_norms) != len(self._floors):
            return
        wide = np.maximum(param_norms, self._floors).astype(np.float64)
        weight_norm = float(np.sqrt(np.dot(wide, wide)))
        if math.isfinite(weight_norm) and weight_norm > 0.0:
            self.weight_norm = weight_norm


def _floor(tensor: TensorInfo) -> float:
    if len(tensor.shape) < _MATRIX_DIMS or tensor.numel == 0:
        return 0.0
    fan_out, fan_in = tensor.shape[0], tensor.numel // tensor.shape[0]
    is_tall = len(tensor.shape) == _MATRIX_DIMS and fan_out > 16 * fan_in
    # The second matrix of an adapter is as tall as an embedding, and starts at zero.
    return 0.0 if is_tall and not is_adapter(tensor.name) else math.sqrt(fan_out / 3.0)


def _floors_of(tensors: Sequence[TensorInfo]) -> list[float]:
    """Smallest norm each tensor counts with."""
    if any(map(_is_matrix, tensors)):
        return [_floor(tensor) for tensor in tensors]
    return [math.sqrt(tensor.numel) for tensor in tensors]


def _is_matrix(tensor: TensorInfo) -> bool:
    return tensor.trainable and len(tensor.shape) >= _MATRIX_DIMS


def long_run_rate(group: GroupHyper) -> float:
    """``lr * (1 - dampening) / (1 - mu)``: how far a gradient moves the weights, momentum played out."""
    return max(group.lr * (1.0 - group.dampening), _TINY_RATE) / max(1.0 - group.momentum, 1e-3)


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What all parameter groups of an optimizer have in common.

    Attributes:
        kind: the kind of all groups: ``other`` where they differ or there is no optimizer.
        rates: long-run rate of each group.
        rate: the long-run rate all groups share; None where they differ.
        lr: largest learning rate.
        same_lr: whether it is that of all groups.
        momentum: largest momentum.
        momenta: each momentum there is.
        undampened: largest share of a gradient that enters the momentum.
    """

    kind: Kind
    rates: tuple[float, ...]
    rate: float | None
    lr: float
    same_lr: bool
    momentum: float
    momenta: tuple[float, ...]
    undampened: float


# Groups as they were seen last, by identity: hundreds of them are looked through once, not at every
# question. The groups are held beside their facts, so that no other object can take their id.
_known: dict[int, tuple[Sequence[GroupHyper], GroupFacts]] = {}
_MOST_KNOWN = 64


def facts_of(groups: Sequence[GroupHyper]) -> GroupFacts:
    """What the groups have in common; a tuple that is asked about again is not looked through again."""
    found = _known.get(id(groups))
    if found is not None and found[0] is groups:
        return found[1]
    facts = _gathered(groups)
    if isinstance(groups, tuple):
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[id(groups)] = groups, facts
    return facts


def _gathered(groups: Sequence[GroupHyper]) -> GroupFacts:
    kinds = {group.kind for group in groups}
    rates = tuple(long_run_rate(group) for group in groups)
    return GroupFacts(
        kind=kinds.pop() if len(kinds) == 1 else "other",
        rates=rates,
        rate=rates[0] if len(set(rates)) == 1 else None,
        lr=max((group.lr for group in groups), default=0.0),
        same_lr=len({group.lr for group in groups}) <= 1,
        momentum=max((group.momentum for group in groups), default=0.0),
        momenta=tuple(sorted({group.momentum for group in groups})),
        undampened=max((1.0 - group.dampening for group in groups), default=1.0),
    )


def single_rate(groups: Sequence[GroupHyper]) -> float | None:
    """The long-run rate all groups share, or None where they differ."""
    return facts_of(groups).rate


def shared_kind(groups: Sequence[GroupHyper]) -> Kind:
    """The kind of all groups: ``other`` where they differ or there is no optimizer."""
    return facts_of(groups).kind
