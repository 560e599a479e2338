"""What the gradient gains from layer to layer on its way back, fitted to the norms of one step.

Shape legend: L weights in forward order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygrad.records import Finding
from steadygrad.report.wording import layer, number
from steadygrad.runfile import Run

Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEAST_WEIGHTS = 3
MOST_FITTED = 256
"""Points a line is fitted through: the number of pairs grows with their square."""
PLATEAU = 0.03
"""Share of the change that an end of the stretch may give up: what changes no more is no part of it."""
_LOG_MOST = 700.0  # exp() of more is Inf
ACCOUNTED = 0.4
"""Least share of the change, in logs, that the fitted growth has to account for."""
TELLING = 10.0
"""Change over a stretch that is worth a mark."""
LOOK_BACK = 64
"""Rows before a finding's among which the newest finite one stands for it."""
GROWTH = {"exploding_gradient": "grows", "vanishing_gradient": "shrinks"}
"""What the gradient does on its way back where a kind is about depth."""


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
        steady: factor that the fitted growth along the stretch accounts for: of scattered norms the two ends are far
            apart too, but nothing carries the gradient from one to the other.
    """

    step: int
    norms: Float64Array
    per_layer: float
    first: int
    last: int
    factor: float
    steady: float = 1.0

    @property
    def telling(self) -> bool:
        """Whether a stretch carries a change that is worth a mark."""
        if self.last <= self.first or 1 / TELLING < self.factor < TELLING:
            return False
        whole, fitted = np.log(self.factor), np.log(self.steady)
        return bool(fitted / whole > ACCOUNTED)


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
    inside = (known >= first) & (known <= last)
    steady = _grown(-_slope(known[inside], logs[inside]) * (last - first)) if last > first else 1.0
    return Profile(step, norms, _grown(-_slope(known, logs)), first, last, factor, steady)


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


def told_growth(run: Run, finding: Finding) -> str:
    """Growth per layer and the stretch that carries it, at the step of a finding, in words.

    Args:
        run: the run; its norms must not have been forgotten.
        finding: one of the kinds in `GROWTH`; any other has no growth to tell.

    Returns:
        ``the gradient grows x1.9 per layer from blocks.41 back to blocks.3``; empty where the norms don't say so.
    """
    weights = [
        i
        for i, tensor in enumerate(run.info.tensors)
        if _is_weight(tensor.shape) and tensor.optimizer == finding.optimizer
    ]
    at = _row(run, finding)
    if finding.kind not in GROWTH or len(weights) < LEAST_WEIGHTS or at is None:
        return ""
    norms = run.norm_matrix(max(at - LOOK_BACK, 0), at + 1)[::-1, weights]
    whole = np.flatnonzero(np.isfinite(norms).all(axis=1) & (norms > 0).any(axis=1))
    if not whole.size:
        return ""
    made = profile(finding.step, np.where(norms[whole[0]] > 0, norms[whole[0]], np.nan))
    grows = made.factor > 1.0
    if not made.telling or grows is not (GROWTH[finding.kind] == "grows"):
        return ""
    each = number(made.factor ** (1 / (made.last - made.first)))
    ends = [_layer(run.info.tensors[weights[place]].name) for place in (made.last, made.first)]
    return f"the gradient {GROWTH[finding.kind]} x{each} per layer from {ends[0]} back to {ends[1]}"


def _is_weight(shape: Sequence[int]) -> bool:
    return len(shape) >= 2


def _layer(name: str) -> str:
    return layer(name.removesuffix(".weight"))


def _row(run: Run, finding: Finding) -> int | None:
    """The last row of the finding's optimizer that begins at its step or before."""
    rows = np.flatnonzero((run.optimizer == finding.optimizer) & (run.steps <= finding.step))
    return int(rows[-1]) if rows.size else None
