"""The signals of one step in a few numbers, for the record.

Shape legend: T time steps.
"""

from __future__ import annotations

import numpy as np

from steadygrad.detect.signals import Fired, Signals
from steadygrad.detect.through_time import Growth
from steadygrad.records import Look, Passage

MOST_PLACES = 64
"""Time steps kept of a sequence: a picture a few hundred pixels wide shows no more."""
MOST_MODULES = 4
"""Recurrent modules kept: a stack of layers inside one module counts as one."""
_SPACING = 50


def next_kept(step: int) -> int:
    """The step before which no other look is kept: a fiftieth later, some 400 in a million steps.

    Args:
        step: step of a look that is kept.

    Returns:
        The earliest step of the next.
    """
    return step + max(1, step // _SPACING)


def look(signals: Signals) -> Look:
    """Sum up the signals of one step.

    Args:
        signals: what was heard.

    Returns:
        The worst layer of each kind, and the path of the gradient through each recurrent module.
    """
    through_time = tuple(map(_passage, signals.time[:MOST_MODULES]))
    layers = signals.layers
    if not layers:
        return Look(signals.step, through_time=through_time)
    dead = max(layers, key=lambda one: one.dead)
    saturated = max(layers, key=lambda one: one.stuck)
    largest = max(layers, key=_size)
    return Look(
        signals.step,
        len(layers),
        dead=dead.dead,
        dead_in=dead.module,
        dead_mean=sum(one.dead for one in layers) / len(layers),
        saturated=saturated.stuck,
        saturated_in=saturated.module,
        saturated_mean=sum(one.stuck for one in layers) / len(layers),
        largest=_size(largest),
        largest_in=largest.module,
        through_time=through_time,
    )


def _size(layer: Fired) -> float:
    """Largest absolute value; Inf where one isn't finite."""
    size = max(abs(layer.low), abs(layer.high))
    return float(size) if np.isfinite(size) else float("inf")


def _passage(growth: Growth) -> Passage:
    norms = np.asarray(growth.grad_norms, np.float64)
    places = np.linspace(0, norms.size - 1, min(norms.size, MOST_PLACES)).astype(int)
    largest = norms.max(initial=0.0)
    kept = norms[places] / largest if largest > 0 else np.zeros(places.size)
    return Passage(growth.module, norms.size, tuple(kept.tolist()), growth.per_step)
