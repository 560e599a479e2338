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
from steadygrad.report.profile import LEAST_WEIGHTS, Profile, profile

MOST_STEPS, LEAST_STEPS = 48, 12
MOST_VALUES = 48_000
"""Norms on the page: a model of 10,000 weights is shown at fewer steps."""


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
    heard = np.flatnonzero(np.isfinite(norms[:, chosen]).any(axis=0))
    return Snowball(names, profiles, _median(norms), _shown(chosen, heard, picture, findings))


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
    """Columns spread evenly, those of findings, of the largest norm, the first non-finite, and what was finite before."""
    wished = max(LEAST_STEPS, min(MOST_STEPS, MOST_VALUES // max(1, len(picture.tensors)))) - 8
    few = held[np.unique(np.linspace(0, held.size - 1, wished).astype(np.int64))]
    told = picture.buckets.place(np.array([finding.step for finding in findings[:6]], np.int64))
    largest = held[[int(np.argmax(np.where(picture.finite, picture.cells, 0).max(axis=0)[held]))]]
    broken = np.flatnonzero((picture.cells == NONFINITE).any(axis=0))[:1]
    finite = np.flatnonzero(picture.finite.any(axis=0))
    before = [finite[finite < column][-1:] for column in (*told.tolist(), *broken.tolist())]
    return np.intersect1d(np.unique(np.concatenate([few, told, largest, broken, *before])), held)


def _shown(chosen: IntArray, heard: IntArray, picture: Raster, findings: Sequence[Finding]) -> int:
    """The step of the worst finding, or the last before it that has a finite number to draw."""
    ill = [one for one in findings if one.severity in {"error", "warning"}]
    worst = next((one for one in ill if one.severity == "error"), ill[0] if ill else None)
    if worst is None:
        return len(chosen) - 1
    column = int(picture.buckets.place(np.array([worst.step], np.int64))[0])
    until = heard[chosen[heard] <= column]
    return int(until[-1]) if until.size else int(np.argmin(np.abs(chosen - column)))
