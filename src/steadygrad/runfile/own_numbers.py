"""Numbers that steadygrad records by itself, under names that stand beside the script's own scalars."""

from __future__ import annotations

from collections.abc import Iterable

from steadygrad.records import Look

OVERHEAD = "steadygrad/overhead"
"""Share of the time since the number before that the training's own thread spent in steadygrad."""
LOCAL_NORM = "steadygrad/local_norm"
"""Norm of a few gradients of this rank alone, before they are reduced over the ranks."""
DEAD, SATURATED, LARGEST = (
    "steadygrad/dead_units",
    "steadygrad/saturated_units",
    "steadygrad/largest_activation",
)
"""Of the worst layer, on the steps that were listened to; see `steadygrad.records.Look`."""


def points(looks: Iterable[Look]) -> list[tuple[int, str, float]]:
    """Looks as points of named scalars, so that they are exported as every other number.

    Args:
        looks: what was recorded.

    Returns:
        (step, name, value), the three numbers of each look at layers.
    """
    return [
        (look.step, name, value)
        for look in looks
        if look.layers
        for name, value in ((DEAD, look.dead), (SATURATED, look.saturated), (LARGEST, look.largest))
    ]
