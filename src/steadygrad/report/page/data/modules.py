"""Tensors in order, in groups by the module they belong to.

Shape legend: P tensors, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from steadygrad.records import TensorInfo
from steadygrad.report.page.data.raster import NONFINITE, Raster

MOST_GROUPS = 80
"""More names than that are no overview: modules are then joined one level higher."""
LEAST_GROUPS = 12
"""Where one level higher leaves fewer than that, neighbours are joined instead."""


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that lie together.

    Attributes:
        name: the part of their names that they share.
        first: index of the first tensor.
        count: how many.
    """

    name: str
    first: int
    count: int


def groups(tensors: Sequence[TensorInfo]) -> list[Group]:
    """Group neighbouring tensors by module, as deep as gives an overview.

    Args:
        tensors: in forward order.

    Returns:
        The groups in that order; each tensor is in exactly one.

    Example:
        >>> [g.name for g in groups([TensorInfo("a.0.weight"), TensorInfo("a.0.bias"), TensorInfo("a.1.weight")])]
        ['a.0', 'a.1']
    """
    paths = [tensor.name.split(".") for tensor in tensors]
    deepest = max((len(path) for path in paths), default=1)
    found = _group(paths, 1)
    for level in range(2, deepest + 1):
        finer = _group(paths, level)
        if len(finer) > MOST_GROUPS:
            return found if len(found) >= LEAST_GROUPS else _joined(finer)
        if sum(group.count for group in finer) < 2 * len(finer):
            return finer if len(found) == 1 else found
        found = finer
    return found


def _joined(groups: Sequence[Group]) -> list[Group]:
    """Neighbours of one parent put together: hundreds of blocks in a row become some stretches of them."""
    most = -(-2 * len(groups) // MOST_GROUPS)
    found = []
    for _, siblings in groupby(groups, lambda group: group.name.rpartition(".")[0]):
        row = list(siblings)
        for part in (row[at : at + most] for at in range(0, len(row), most)):
            last = f"–{part[-1].name.rpartition('.')[2]}" if len(part) > 1 else ""
            found.append(Group(part[0].name + last, part[0].first, sum(group.count for group in part)))
    return found


def _group(paths: Sequence[Sequence[str]], level: int) -> list[Group]:
    found: list[Group] = []
    for at, path in enumerate(paths):
        name = ".".join(path[: max(1, min(level, len(path) - 1))])
        if found and found[-1].name == name:
            found[-1] = Group(name, found[-1].first, found[-1].count + 1)
        else:
            found.append(Group(name, at, 1))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Numbers to sort tensors by, the first first.

    Attributes:
        worst: largest norm of all steps, non-finite above all ``[P]``.
        growth: natural logarithm of the usual norm at the end over that at the beginning ``[P]``.
    """

    worst: NDArray[np.float64]
    growth: NDArray[np.float64]


def ranking(picture: Raster) -> Ranking:
    """Rank tensors by what their rows of the heat map show."""
    cells = picture.cells
    worst = cells.max(axis=1, initial=0).astype(np.float64)
    worst += (cells == NONFINITE).sum(axis=1)
    part = max(1, cells.shape[1] // 4)
    ends = [
        _usual(cells[:, where], picture.finite[:, where]) for where in (slice(0, part), slice(-part, None))
    ]
    return Ranking(worst, np.nan_to_num((ends[1] - ends[0]) / 256.0, nan=-1e3))


def _usual(cells: NDArray[np.uint16], finite: NDArray[np.bool_]) -> NDArray[np.float64]:
    known = np.where(finite, cells.astype(np.float64), np.inf)
    number = finite.sum(axis=1)
    middle = np.sort(known, axis=1)[np.arange(len(cells)), np.maximum(number - 1, 0) // 2]
    return np.where(number > 0, middle, np.nan)
