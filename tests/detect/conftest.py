"""Streams of Readings for the detectors."""

from __future__ import annotations

import numpy as np
import pytest

from steadygrad.detect import Context
from steadygrad.records import Reading, TensorInfo


def _stream(norms, **fields):
    """Readings of a ``[T, P]`` array; a field may be one value or a list of T."""
    readings = []
    for step, row in enumerate(np.asarray(norms)):
        with np.errstate(all="ignore"):
            total = float(np.sqrt(np.sum(row.astype(np.float64) ** 2)))
        own = {name: value[step] if isinstance(value, list) else value for name, value in fields.items()}
        readings.append(Reading(step, row, total, **own))
    return readings


def _context(size, shape=(8, 8), **fields):
    return Context(tuple(TensorInfo(f"layer{i}.weight", shape) for i in range(size)), **fields)


@pytest.fixture(scope="session")
def stream():
    return _stream


@pytest.fixture(scope="session")
def context():
    return _context
