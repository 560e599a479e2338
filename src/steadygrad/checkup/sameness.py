"""Does anything differ from example to example, in what goes in and in what is asked for?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from steadygrad.calling import tensors_in
from steadygrad.checkup.look import Fed, Look, fed, plain
from steadygrad.detect.answers import constant_prediction
from steadygrad.detect.sameness import LEAST_ROWS, constant_input, constant_targets
from steadygrad.records import Finding


def sameness(seen: Look) -> Iterator[Finding]:
    """Inputs without a difference, and targets that are all alike."""
    yield from _inputs(seen)
    yield from _targets(seen)


def _inputs(seen: Look) -> Iterator[Finding]:
    given = [fed(one.detach()) for one in tensors_in(seen.batch) if one.numel() > 1 and plain(one)]
    places = list(seen.data.values()) or given  # where the first layer is somebody's own, nothing was heard
    if not places or not _same(places):
        return
    where = list(seen.data)
    numbers = {number for one in places for number in (one.low, one.high)}
    if _same(given):
        yield constant_input(0, numbers.pop() if len(numbers) == 1 else None, places[0].rows, where)
        return
    story = f"the rows of the batch differ, and all {places[0].rows} rows of what enters {where[0] or 'the model'} are the same"
    yield constant_prediction(0, seen.loss, math.nan, story, where=where)


def _same(places: list[Fed]) -> bool:
    """Whether nothing differs anywhere: a mask, or the kind of each token, may well be the same for all."""
    return all(one.alike and one.rows >= LEAST_ROWS for one in places)


def _targets(seen: Look) -> Iterator[Finding]:
    # What a model computes for itself may compare anything; a loss function compares its output with targets.
    asked = [one for one in seen.targets if one.direct or seen.loss_fn is None]
    values = [one.values for one in asked if one.values.numel()]
    if not values or len(values) != len(seen.targets):
        return
    count = sum(one.numel() for one in values)
    first = values[0][0]
    if (
        count < LEAST_ROWS
        or any(bool((one != first).any()) for one in values)
        or not bool(torch.isfinite(first))
    ):
        return
    yield constant_targets(0, float(first), count, labels=asked[0].classes > 2)
