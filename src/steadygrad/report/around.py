"""What was done in a run, with the numbers just before and just after it.

Shape legend: T rows of one optimizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadygrad.records import FloatArray, Incident
from steadygrad.report.wording import number
from steadygrad.runfile import Run

REACH = 64
"""Rows before and after among which the nearest finite number is looked for."""


@dataclass(frozen=True, slots=True)
class Around:
    """One incident.

    Attributes:
        incident: what was done.
        norm: total norm of the nearest finite step before and after, as ``3.1e+04 → 12``; empty where there is neither.
        loss: the loss, likewise.
    """

    incident: Incident
    norm: str
    loss: str


def around(run: Run, incidents: Sequence[Incident]) -> tuple[Around, ...]:
    """Look up what came before and after each incident.

    Args:
        run: the run.
        incidents: of the run.

    Returns:
        One entry an incident.
    """
    rows = {i: np.flatnonzero(run.optimizer == i) for i in {incident.optimizer for incident in incidents}}
    found = []
    for one in incidents:
        mine = rows[one.optimizer]
        steps = run.steps[mine]
        before = mine[: np.searchsorted(steps, one.step, "left")][-REACH:][::-1]
        after = mine[np.searchsorted(steps, one.step, "right") :][:REACH]
        found.append(
            Around(one, *(_told(values[before], values[after]) for values in (run.total_norm, run.loss)))
        )
    return tuple(found)


def _told(before: FloatArray, after: FloatArray) -> str:
    """The first finite number of each, nearest first."""
    sides = [values[np.isfinite(values)][:1] for values in (before, after)]
    if not any(side.size for side in sides):
        return ""
    return " → ".join(number(float(side[0])) if side.size else "–" for side in sides)
