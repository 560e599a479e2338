"""Streams of readings as a real run may produce them, and worse."""

from __future__ import annotations

import numpy as np
import pytest

from steadygrad.records import Reading, RunInfo, TensorInfo


def named(count, optimizer=0, start=0):
    return tuple(TensorInfo(f"layer.{start + i}", (2, 3), optimizer=optimizer) for i in range(count))


def wild_readings(steps, tensors, seed=0):
    """Noisy norms over many decades, among them NaN, Inf, 0, denormals, huge ones and missing ones."""
    rng = np.random.default_rng(seed)
    norms = np.exp(rng.normal(-3, 6, (1, tensors)) + rng.normal(0, 0.5, (steps, tensors)))
    odd = np.array([np.nan, np.inf, 0.0, 5e-324, 1e-42, 1e300, 1.7e308])
    where = rng.random((steps, tensors)) < 0.05
    norms[where] = rng.choice(odd, where.sum())
    absent = rng.random((steps, tensors)) < 0.05
    norms[absent] = 0.0
    return [_reading(step, norms[step], absent[step], rng) for step in range(steps)]


def _reading(step, norms, absent, rng):
    return Reading(
        step,
        norms,
        float(np.max(norms, initial=0.0)),
        absent=absent if absent.any() else None,
        clip_coef=float(rng.choice([1.0, rng.random()])),
        cap=None if step % 5 == 0 else float(rng.random()),
        skipped=bool(step % 11 == 0),
        overflow=bool(step % 13 == 0),
        lr=float(rng.choice([0.1, 0.01])),
        lr_factor=1.0 if step % 7 else 0.5,
        loss=[None, float("nan"), float("inf"), -float("inf"), 2.5][step % 5],
        time_s=0.01 * step,
        param_norms=norms[::-1].copy() if step % 16 == 3 else None,
        update_norms=norms if step % 16 == 5 else None,
    )


@pytest.fixture
def info():
    def make(count=4, **changes):
        return RunInfo(**{"name": "run", "started": 1.7e9, "tensors": named(count), **changes})

    return make


@pytest.fixture(scope="session")
def tensors_named():
    return named


@pytest.fixture(scope="session")
def wild():
    return wild_readings
