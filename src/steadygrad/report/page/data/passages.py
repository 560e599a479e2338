"""The gradient on its way back through time, on the steps at which recurrent modules were listened to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadygrad.records import Finding, Look, Passage

MOST_STEPS, MOST_MODULES = 48, 4


@dataclass(frozen=True, slots=True)
class Passages:
    """Gradient norm against time step, at some steps of the training.

    Attributes:
        modules: the recurrent modules, in the order in which they were first heard.
        looks: one a chosen step, by step.
        shown: which of them to begin with.
    """

    modules: tuple[str, ...]
    looks: tuple[Look, ...]
    shown: int

    def of(self, look: Look, module: str) -> Passage | None:
        """What a look says of one module; None where it wasn't called."""
        return next((one for one in look.through_time if one.module == module), None)


def passages(looks: Sequence[Look], findings: Sequence[Finding] = ()) -> Passages | None:
    """Choose the steps to show.

    Args:
        looks: all there are.
        findings: those about time are among the chosen; the worst of them is the first shown.

    Returns:
        The chosen; None where no recurrent module was heard.
    """
    heard = sorted((one for one in looks if one.through_time), key=lambda one: one.step)
    if not heard:
        return None
    steps = np.array([one.step for one in heard])
    about_time = [one for one in findings if one.kind.endswith("_in_time")]
    told = [int(np.argmin(np.abs(steps - one.step))) for one in about_time[: MOST_STEPS // 2]]
    few = np.linspace(0, len(heard) - 1, MOST_STEPS - len(told)).astype(int).tolist()
    chosen = sorted({*few, *told})
    worst = next((i for i, one in zip(told, about_time, strict=False) if one.severity == "error"), None)
    first = worst if worst is not None else (told[0] if told else chosen[-1])
    modules = dict.fromkeys(one.module for look in heard for one in look.through_time)
    return Passages(tuple(modules)[:MOST_MODULES], tuple(heard[i] for i in chosen), chosen.index(first))
