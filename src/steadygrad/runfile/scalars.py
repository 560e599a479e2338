"""Named scalars, such as the loss a script logs: packed, and thinned when they grow too many.

Shape legend: n points, over all names.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadygrad.runfile.block import Float64Array, IntArray
from steadygrad.runfile.finite import dumps, loads
from steadygrad.runfile.planes import PlaneReader, PlaneWriter

_GROUP = 4


@dataclass(frozen=True, slots=True, eq=False)
class Scalars:
    """Points in order of writing.

    Attributes:
        names: names that occur.
        name: index into ``names`` ``[n]``.
        step: ``[n]``.
        value: ``[n]``; exact, NaN and Inf included.
    """

    names: tuple[str, ...]
    name: IntArray
    step: IntArray
    value: Float64Array


def from_points(points: Sequence[tuple[int, str, float]]) -> Scalars:
    """Collect (step, name, value) points."""
    names = tuple(dict.fromkeys(name for _, name, _ in points))
    index = {name: position for position, name in enumerate(names)}
    return Scalars(
        names,
        np.array([index[name] for _, name, _ in points], np.int64),
        np.array([step for step, _, _ in points], np.int64),
        np.array([value for _, _, value in points], np.float64),
    )


def join(parts: Sequence[Scalars]) -> Scalars:
    """Put points one behind the other."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    index = {name: position for position, name in enumerate(names)}
    renumbered = [np.array([index[name] for name in part.names], np.int64)[part.name] for part in parts]
    return Scalars(
        names,
        np.concatenate(renumbered),
        np.concatenate([part.step for part in parts]),
        np.concatenate([part.value for part in parts]),
    )


def pack(scalars: Scalars) -> bytes:
    """Turn points into bytes."""
    out, names = PlaneWriter(), zlib.compress(dumps(scalars.names).encode())
    out.count(len(names))
    out.plane(names)
    out.count(scalars.value.size)
    out.ints(scalars.name)
    out.ints(scalars.step)
    out.floats(scalars.value, "exact")
    return out.getvalue()


def unpack(data: bytes) -> Scalars:
    """Turn bytes back into points."""
    source = PlaneReader(data)
    names = loads(zlib.decompress(source.plane(source.count()).tobytes()))
    size = source.count()
    return Scalars(tuple(names), source.ints(size), source.ints(size), source.floats(size))


def thin(scalars: Scalars) -> Scalars:
    """Keep the lowest and the highest of every four points of a name, so spikes survive.

    A NaN counts as the highest.
    """
    kept = [
        _extremes(np.flatnonzero(scalars.name == index), scalars.value) for index in range(len(scalars.names))
    ]
    rows = np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.intp)
    return Scalars(scalars.names, scalars.name[rows], scalars.step[rows], scalars.value[rows])


def _extremes(points: NDArray[np.intp], value: Float64Array) -> NDArray[np.intp]:
    whole = points.size // _GROUP * _GROUP
    groups = points[:whole].reshape(-1, _GROUP)
    height = np.where(np.isnan(value[groups]), np.inf, value[groups])
    low, high = height.argmin(axis=1), _GROUP - 1 - height[:, ::-1].argmax(axis=1)
    high = np.where(np.isnan(value[groups]).any(axis=1), np.isnan(value[groups]).argmax(axis=1), high)
    low = np.where(low == high, (high + 1) % _GROUP, low)
    chosen = np.stack([low, high], axis=1)
    return np.concatenate([np.take_along_axis(groups, chosen, axis=1).ravel(), points[whole:]])
