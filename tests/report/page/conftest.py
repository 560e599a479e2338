"""Runs a page has to cope with, and a real browser where one is installed."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.chromium import chromium, missing

from steadygrad.records import Reading, RunInfo, TensorInfo
from steadygrad.runfile import RunWriter, open_run


@pytest.fixture
def wild_run(tmp_path):
    """Write a run whose norms hold NaN, Inf, zeros, denormals and huge ones; a small cap makes old rows coarse."""

    def make(steps=700, tensors=6, seed=0, optimizers=1, **options):
        rng = np.random.default_rng(seed)
        infos = tuple(
            TensorInfo(f"layers.{i // 2}.{i % 2}.weight", (4, 3), optimizer=i % optimizers)
            for i in range(tensors)
        )
        writer = RunWriter(tmp_path / f"wild{seed}.steady", RunInfo("wild", tensors=infos), **options)
        for step in range(steps):
            for optimizer in range(optimizers):
                writer.append(_wild_reading(step, optimizer, infos, rng))
        writer.close()
        assert writer.fault is None
        return open_run(writer.path)

    return make


def _wild_reading(step, optimizer, infos, rng):
    mine = sum(info.optimizer == optimizer for info in infos)
    norms = np.exp(rng.normal(-3, 3, mine))
    odd = rng.random(mine) < 0.03
    norms[odd] = rng.choice([np.nan, np.inf, 0.0, 5e-324, 1e300], odd.sum())
    total = float(np.sqrt(np.square(norms[np.isfinite(norms)] / 1e150).sum()) * 1e150)
    return Reading(
        step, norms, total if np.isfinite(norms).all() else float("nan"), optimizer=optimizer,
        loss=float(rng.choice([1.0, 2.5, float("nan"), float("inf"), -1.0])), lr=0.1, time_s=0.01 * step,
        clip_coef=float(rng.choice([1.0, 0.5])), skipped=bool(step % 50 == 7),
        param_norms=np.full(mine, 2.0) if step % 16 == 3 else None,
        update_norms=np.full(mine, 0.5) if step % 16 == 3 else None,
    )  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium that logs every request."""
    if missing():
        pytest.skip(missing())
    with chromium() as driver:
        yield driver
