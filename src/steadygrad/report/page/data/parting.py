"""Where two runs part: the first step at which they differ, and the tensors that differ first.

Shape legend: T steps both runs have, P tensors both runs have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steadygrad.report.page.data.buckets import IntArray
from steadygrad.report.page.data.raster import NO_GRADIENT, cell_codes, cell_value
from steadygrad.runfile import Run
from steadygrad.runfile.codec import CodeArray

BEYOND_RECORD = 2
"""Codes are 0.4 % apart, so records of numbers that are alike may differ by one."""

TWOFOLD = 178
"""Codes that lie between a number and its double."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One tensor at the step where the runs part.

    Attributes:
        name: the tensor.
        one: its norm in the first run.
        other: its norm in the second.
    """

    name: str
    one: float
    other: float


@dataclass(frozen=True, slots=True)
class Moment:
    """A step at which the runs differ.

    Attributes:
        step: the step.
        count: tensors that differ.
        leaders: some of them, the largest difference first.
    """

    step: int
    count: int
    leaders: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two runs part.

    Attributes:
        shared_steps: steps that both recorded one by one, up to where they differ twofold.
        shared_tensors: tensors that both have.
        first: the first difference beyond the precision of the record; None where there is none.
        twofold: the first step at which a tensor's norm is twice the other's; None where none is.
        alone: tensors that only the first has, and only the second.
        reshaped: tensors that both have, of another shape in either.
    """

    shared_steps: int
    shared_tensors: int
    first: Moment | None
    twofold: Moment | None
    alone: tuple[int, int] = (0, 0)
    reshaped: int = 0


def parting(one: Run, other: Run, most: int = 6) -> Parting:
    """Compare two runs step by step, tensor by tensor.

    Only steps that stand for themselves in both files are compared: old rows of a long run are means. The steps of
    each optimizer are compared with those of the one that has the same tensors. Both files are read stretch by stretch, and
    no further than the first twofold difference.

    Args:
        one: the first run.
        other: the second.
        most: tensors to name.

    Returns:
        Where they part.
    """
    pairs = _shared(one, other)
    found = [_parted(one, other, pair, names, most) for pair, names in pairs.items()]
    return Parting(
        max((part.shared_steps for part in found), default=0),
        sum(part.shared_tensors for part in found),
        _earliest([part.first for part in found], most),
        _earliest([part.twofold for part in found], most),
        *_unlike(one, other),
    )


def _unlike(one: Run, other: Run) -> tuple[tuple[int, int], int]:
    """How far the models themselves differ."""
    ours, theirs = ({tensor.name: tensor.shape for tensor in run.info.tensors} for run in (one, other))
    both = ours.keys() & theirs.keys()
    return (len(ours) - len(both), len(theirs) - len(both)), sum(ours[name] != theirs[name] for name in both)


def _shared(one: Run, other: Run) -> dict[tuple[int, int], list[str]]:
    """Names of the tensors that both have, by their optimizers in either."""
    theirs = {tensor.name: tensor.optimizer for tensor in reversed(other.info.tensors)}
    ours = {tensor.name: tensor.optimizer for tensor in reversed(one.info.tensors)}
    found: dict[tuple[int, int], list[str]] = {}
    for name in dict.fromkeys(tensor.name for tensor in one.info.tensors):
        if name in theirs:
            found.setdefault((ours[name], theirs[name]), []).append(name)
    return found


def _parted(one: Run, other: Run, pair: tuple[int, int], names: Sequence[str], most: int) -> Parting:
    compared, moments = 0, dict.fromkeys((BEYOND_RECORD, TWOFOLD))
    for steps, ours, theirs in _together(_feed(one, names, pair[0]), _feed(other, names, pair[1])):
        compared += steps.size
        apart = np.abs(ours.astype(np.int32) - theirs.astype(np.int32))
        for least in [least for least, found in moments.items() if found is None]:
            rows = np.flatnonzero((apart >= least).any(axis=1))
            if rows.size:
                at = int(rows[0])
                moments[least] = _moment(int(steps[at]), names, ours[at], theirs[at], least, most)
        if moments[TWOFOLD] is not None:
            break
    return Parting(compared, len(names), moments[BEYOND_RECORD], moments[TWOFOLD])


def _earliest(moments: Sequence[Moment | None], most: int) -> Moment | None:
    """The first of them; what several optimizers show at the same step is one moment."""
    known = [moment for moment in moments if moment is not None]
    if not known:
        return None
    step = min(moment.step for moment in known)
    same = [moment for moment in known if moment.step == step]
    leaders = sorted((one for moment in same for one in moment.leaders), key=_apart, reverse=True)
    return Moment(step, sum(moment.count for moment in same), tuple(leaders[:most]))


def _apart(one: Difference) -> float:
    """How far apart two norms are, in logs; what is in one of them only is farthest."""
    if not (np.isfinite(one.one) and np.isfinite(one.other) and one.one > 0 and one.other > 0):
        return float("inf")
    return float(abs(np.log(one.one) - np.log(one.other)))


def _moment(
    step: int, names: Sequence[str], ours: CodeArray, theirs: CodeArray, least: int, most: int
) -> Moment:
    apart = np.abs(ours.astype(np.int32) - theirs.astype(np.int32))
    order = np.argsort(-apart, kind="stable")[: int((apart >= least).sum())]
    leaders = tuple(
        Difference(names[i], cell_value(int(ours[i])), cell_value(int(theirs[i])))
        for i in order[:most].tolist()
    )
    return Moment(step, int(order.size), leaders)


def _feed(run: Run, names: Sequence[str], optimizer: int) -> Iterator[tuple[IntArray, CodeArray]]:
    """Steps and codes ``[T, P]`` of one optimizer, stretch by stretch."""
    position = {tensor.name: i for i, tensor in reversed(list(enumerate(run.info.tensors)))}
    columns = np.array([position[name] for name in names], np.int64)
    for block in run.blocks():
        rows = np.flatnonzero((block.head.optimizer == optimizer) & (block.head.resolution == 1))
        codes = np.full((rows.size, columns.size), NO_GRADIENT, np.uint16)
        there = columns < block.tensors
        codes[:, there] = cell_codes(block.body.norms)[np.ix_(columns[there], rows)].T
        yield block.head.step[rows], codes


def _together(
    one: Iterator[tuple[IntArray, CodeArray]], other: Iterator[tuple[IntArray, CodeArray]]
) -> Iterator[tuple[IntArray, CodeArray, CodeArray]]:
    """The steps that both have, as they come."""
    ours, theirs = next(one, None), next(other, None)
    while ours is not None and theirs is not None:
        steps, left, right = np.intersect1d(ours[0], theirs[0], return_indices=True)
        if steps.size:
            yield steps, ours[1][left], theirs[1][right]
        if _end(ours[0]) <= _end(theirs[0]):
            ours = next(one, None)
        else:
            theirs = next(other, None)


def _end(steps: IntArray) -> int:
    return int(steps.max(initial=-1))
