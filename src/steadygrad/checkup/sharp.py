"""A softmax that gives all its weight to one choice before anything is learnt: its scores are too far apart."""

from __future__ import annotations

import math
from collections.abc import Iterator

from steadygrad.checkup.look import Look
from steadygrad.checkup.overheard import Softmax
from steadygrad.checkup.size import root_mean_square
from steadygrad.detect.finding import make
from steadygrad.detect.scale import LARGE
from steadygrad.records import Finding

LEAST_CHOICES = 8
"""Among fewer, one may win by itself."""

ALL = 0.75
"""Mean weight of the first choice of all rows. Queries and keys of unit spread in 512 dimensions give 0.91 over 64 keys
where the root of the dimension is forgotten, and 0.07 where it isn't (Vaswani et al. 2017, arXiv:1706.03762, 3.2.1)."""

SCALED = 10.0
"""Scores over the model's output: beyond it a temperature, not the output, has made them large."""

WRONG = 2.0
"""Loss over that of an even guess: a softmax that is as sure as this and right has a small one."""


def sharp(seen: Look) -> Iterator[Finding]:
    """The sharpest softmax, where what it was made from is of an ordinary size."""
    found = [one for one in seen.softmaxes if one.choices >= LEAST_CHOICES and one.weight >= ALL]
    inside = [one for one in found if one.module is not None and not one.fed > LARGE]
    outside = [one for one in found if one.module is None and _by_temperature(seen, one)]
    if inside:
        yield _told(max(inside, key=lambda one: one.weight), inside)
    elif outside:
        yield _told(max(outside, key=lambda one: one.weight), outside)


def _by_temperature(seen: Look, one: Softmax) -> bool:
    """Whether the loss itself has made the scores so large, and is as large for it."""
    output = seen.output_tensor
    if output is None or not math.isfinite(seen.loss):
        return False
    size = root_mean_square(output)
    return one.scale > SCALED * max(size, 1e-3) and seen.loss > WRONG * math.log(one.choices)


def _told(one: Softmax, alike: list[Softmax]) -> Finding:
    place = "the loss" if one.module is None else one.module or "the model"
    names = list(dict.fromkeys(each.module for each in alike if each.module))
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return make(
        "sharp_softmax",
        "warning",
        0,
        f"The softmax of {place}{more} gives {one.weight:.0%} of its weight to one of {one.choices:.0f} choices, before "
        f"anything is learnt: its scores differ by {one.spread:.3g} (standard deviation), and its slope is next to 0.",
        where=[one.module or place, *(name for name in names if name != one.module)]
        if one.module is not None
        else ["loss"],
        evidence={
            "weight": one.weight,
            "choices": one.choices,
            "spread of scores": one.spread,
            "layers": len(alike),
        },
    )
