"""The size of what flows through the model: data that isn't normalised, and a model that is loud from the start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadygrad.detect.finding import make
from steadygrad.records import Finding, Reading

LARGE = 10.0
"""Root mean square of an input: unit spread is what initialisations assume (LeCun et al. 1998, section 4.3);
ten times that scales the first layer's gradient by ten and its curvature by a hundred."""

# A gradient or a loss this many times the first: a step has ruined what the start was.
_JUMP = 3.0
# Of their own length: what a layer returns is then no longer what its first weights made of the data.
_MOVED = 0.25

LOUD = 1e3
"""Root mean square of what a layer returns at the start, for data of size 1; sound starts keep it near 1."""


NOTHING = 0.05
"""Share of an output that its targets may be for all of it to be called error."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large the numbers are at one place.

    Attributes:
        module: qualified name of the layer that they enter, or that has returned them.
        scale: root mean square.
        low: smallest value.
        high: largest value.
    """

    module: str
    scale: float
    low: float
    high: float


def unnormalised_input(step: int, fed: Sequence[Size], *, guarded: bool = False) -> Finding | None:
    """The data is too large where it enters the first layers: what a model normalises itself is normalised.

    Args:
        step: of the look.
        fed: sizes of the data, by the layers that it enters.
        guarded: a guard is attached.
    """
    large = [one for one in fed if LARGE < one.scale < math.inf]
    if not large:
        return None
    worst = max(large, key=lambda one: one.scale)
    return make(
        "unnormalised_input",
        "warning",
        step,
        f"The data that enters {worst.module or 'the model'} runs from {worst.low:.4g} to {worst.high:.4g} (root mean "
        f"square {worst.scale:.3g}); networks are initialised for inputs of mean 0 and spread 1.",
        where=["input", *filter(None, [worst.module])],
        evidence={"root mean square": worst.scale, "lowest": worst.low, "highest": worst.high},
        guarded=guarded,
    )


def loud_start(
    step: int, fed: Sequence[Size], made: Sequence[Size], off: float = math.nan, *, guarded: bool = False
) -> Finding | None:
    """A layer returns numbers that are far too large for what the data was.

    Args:
        step: of the look, one of the first.
        fed: sizes of the data, by the layers that it enters.
        made: sizes of what layers have returned, in forward order; the last is the output's.
        off: root mean square of the output's error over that of the output itself; NaN where it isn't known.
        guarded: a guard is attached.
    """
    bar = LOUD * max([1.0, *(one.scale for one in fed if one.scale < math.inf)])
    loud = [one for one in made if bar < one.scale < math.inf]
    # The last one alone speaks in the unit of the targets, which may be dollars: unless all of it is error.
    if not loud or (loud[0] is made[-1] and not abs(off - 1.0) < NOTHING):
        return None
    first, loudest = loud[0], max(loud, key=lambda one: one.scale)
    return make(
        "exploding_gradient",
        "warning",
        step,
        f"The signal is {loudest.scale:.2g} in size where it leaves {loudest.module or 'the model'}, already at the "
        f"start: the weights are too large for so many layers or time steps, and so is each gradient.",
        where=list(filter(None, dict.fromkeys([first.module, loudest.module]))),
        evidence={"output scale": loudest.scale, "input scale": bar / LOUD, "loud layers": len(loud)},
        guarded=guarded,
    )


def is_past_start(start: Reading, now: Reading) -> bool:
    """Whether what a layer returns is no longer what its first weights make of the data.

    Args:
        start: the first step.
        now: the step that is looked at.
    """
    if start.step != now.step and _has_moved(start, now):
        return True
    louder = now.total_norm > _JUMP * start.total_norm
    return louder or (now.loss is not None and start.loss is not None and now.loss > _JUMP * abs(start.loss))


def _has_moved(start: Reading, now: Reading) -> bool:
    """Whether the first step, or those up to now, have changed the weights by a share that signals would show."""
    if start.param_norms is None:
        return False
    whole = float(np.linalg.norm(start.param_norms))
    moved = 0.0 if start.update_norms is None else float(np.linalg.norm(start.update_norms))
    if now.param_norms is not None and now.param_norms.shape == start.param_norms.shape:
        moved = max(moved, float(np.linalg.norm(now.param_norms - start.param_norms)))
    return not moved <= _MOVED * whole
