"""The snowball: the gradient norm from layer to layer, at some steps, and what it gains on its way back.

Only weights of two dimensions or more: biases and gains have other sizes and would zigzag between them.

Shape legend: L weights in forward order, C columns of the heat map, S chosen steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadygrad.records import Finding
from steadygrad.report.page.data.buckets import Float64Array, IntArray
from steadygrad.report.page.data.raster import NONFINITE, Raster

MOST_STEPS, LEAST_STEPS = 48, 12
MOST_VALUES = 48_000
"""Norms on the page: a model of 10,000 weights is shown at fewer steps."""
LEAST_WEIGHTS = 3
MOST_FITTED = 256
"""Points a line is fitted through: the number of pairs grows with their square."""
PLATEAU = 0.03
"""Share of the change that an end of the stretch may give up: what changes no more is no part of it."""
_LOG_MOST = 700.0  # exp() of more is Inf
TELLING = 10.0
"""Change over a stretch that is worth a mark."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One step.

    Attributes:
        step: first step of its column.
        norms: gradient norm of each weight ``[L]``; NaN without a gradient, Inf where non-finite.
        per_layer: fitted growth from one weight to the one before it; above 1 it explodes on its way back.
        first: position of the stretch's end nearest to the input.
        last: position of its end nearest to the loss.
        factor: norm at ``first`` over that at ``last``.
    """

    step: int
    norms: Float64Array
    per_layer: float
    first: int
    last: int
    factor: float

    @property
    def telling(self) -> bool:
        """Whether a stretch carries a change that is worth a mark."""
        return self.last > self.first and not 1 / TELLING < self.factor < TELLING


@dataclass(frozen=True, slots=True, eq=False)
class Snowball:
    """Gradient norm against depth.

    Attributes:
        names: the weights ``[L]``.
        profiles: one a chosen step, by step.
        usual: median over all steps ``[L]``; NaN for a weight that never has a gradient.
        shown: which profile to begin with.
    """

    names: tuple[str, ...]
    profiles: tuple[Profile, ...]
    usual: Float64Array
    shown: int


def snowball(picture: Raster, findings: Sequence[Finding] = ()) -> Snowball | None:
    """Prepare the snowball.

    Args:
        picture: the heat map.
        findings: their steps are among the chosen; the worst of them is the first shown.

    Returns:
        The snowball; None where fewer than 3 weights, or no steps, are known.
    """
    weights = np.array([i for i, tensor in enumerate(picture.tensors) if len(tensor.shape) >= 2], np.int64)
    held = (picture.cells[weights] > 0).any(axis=0) if weights.size else np.zeros(0, np.bool_)
    if weights.size < LEAST_WEIGHTS or not held.any():
        return None
    norms = _values(picture, weights)
    chosen = _chosen(picture, findings, np.flatnonzero(held))
    steps = np.ceil(picture.buckets.edges[:-1]).astype(np.int64)
    profiles = tuple(profile(int(steps[column]), norms[:, column]) for column in chosen.tolist())
    names = tuple(picture.tensors[i].name for i in weights.tolist())
    return Snowball(names, profiles, _median(norms), _shown(chosen, picture, findings))


def profile(step: int, norms: Float64Array) -> Profile:
    """Fit one step.

    Args:
        step: the step.
        norms: gradient norms in forward order ``[L]``.

    Returns:
        Growth per layer (median of all slopes between two points of the logarithm: Theil and Sen) and the
        stretch that carries most of it.
    """
    known = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    if known.size < 2:
        return Profile(step, norms, 1.0, 0, 0, 1.0)
    logs = np.log(norms[known])
    first, last = _stretch(known, logs)
    factor = _grown(np.log(norms[first]) - np.log(norms[last]))
    return Profile(step, norms, _grown(-_slope(known, logs)), first, last, factor)


def _grown(log: float) -> float:
    """``exp`` that stays finite."""
    return float(np.exp(np.clip(log, -_LOG_MOST, _LOG_MOST)))


def _slope(places: IntArray, logs: Float64Array) -> float:
    if places.size > MOST_FITTED:
        few = np.linspace(0, places.size - 1, MOST_FITTED).astype(np.int64)
        places, logs = places[few], logs[few]
    one, other = np.triu_indices(places.size, 1)
    return float(np.median((logs[other] - logs[one]) / (places[other] - places[one])))


def _stretch(places: IntArray, logs: Float64Array) -> tuple[int, int]:
    """Positions between which it happens, without the flat parts at either end."""
    start, end = sorted((int(np.argmin(logs)), int(np.argmax(logs))))
    inside = logs[start : end + 1]
    slack = PLATEAU * abs(inside[-1] - inside[0])
    begin = np.flatnonzero(np.abs(inside - inside[0]) <= slack).max()
    finish = np.flatnonzero(np.abs(inside - inside[-1]) <= slack).min()
    if begin >= finish:
        begin, finish = 0, inside.size - 1
    return int(places[start + begin]), int(places[start + finish])


def _values(picture: Raster, weights: IntArray) -> Float64Array:
    part = Raster(picture.buckets, picture.cells[weights], ())
    values = part.values()
    return np.where(values == 0.0, np.nan, values)


def _median(norms: Float64Array) -> Float64Array:
    finite = np.where(np.isfinite(norms), norms, np.inf)
    number = np.isfinite(norms).sum(axis=1)
    middle = np.sort(finite, axis=1)[np.arange(len(norms)), np.maximum(number - 1, 0) // 2]
    return np.where(number > 0, middle, np.nan)


def _chosen(picture: Raster, findings: Sequence[Finding], held: IntArray) -> IntArray:
    """Columns spread evenly, those of findings, that of the largest norm, and the first that is non-finite."""
    wished = max(LEAST_STEPS, min(MOST_STEPS, MOST_VALUES // max(1, len(picture.tensors)))) - 8
    few = held[np.unique(np.linspace(0, held.size - 1, wished).astype(np.int64))]
    told = picture.buckets.place(np.array([finding.step for finding in findings[:6]], np.int64))
    largest = held[[int(np.argmax(np.where(picture.finite, picture.cells, 0).max(axis=0)[held]))]]
    broken = np.flatnonzero((picture.cells == NONFINITE).any(axis=0))[:1]
    return np.intersect1d(np.unique(np.concatenate([few, told, largest, broken])), held)


def _shown(chosen: IntArray, picture: Raster, findings: Sequence[Finding]) -> int:
    worst = next((one for one in findings if one.severity == "error"), None)
    if worst is None:
        return len(chosen) - 1
    column = int(picture.buckets.place(np.array([worst.step], np.int64))[0])
    return int(np.argmin(np.abs(chosen - column)))
