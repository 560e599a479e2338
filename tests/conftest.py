"""What every test starts from: one thread, known seeds, no leftover environment."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from steadygrad.records import Reading, RunInfo, TensorInfo
from steadygrad.runfile import RunWriter

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _known_seeds():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test may use the global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "STEADYGRAD_QUIET", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def _total(norms):
    return float(np.sqrt(np.sum(np.square(np.asarray(norms, np.float64)))))


def _reading(step, norms, changes):
    row = np.asarray(norms, np.float32)
    plain = {"step": step, "norms": row, "total_norm": _total(row), "time_s": 0.01 * step, "lr": 0.1}
    return Reading(**{**plain, **changes})


@pytest.fixture
def record(tmp_path):
    """Write a real run file.

    `norms` has one row a step. `changes` maps a step to the fields of its Reading that aren't plain.
    """

    def write(norms, changes=None, findings=(), incidents=(), path=None, **info):
        changes = changes or {}
        norms = np.asarray(norms, np.float64)
        names = [f"layers.{i}.weight" for i in range(norms.shape[1])]
        fields = {
            "name": "first",
            "mode": "guard",
            "policy": "auto()",
            "started": 1.7e9,
            "model": "Net",
            "optimizers": ("SGD",),
            "tensors": tuple(TensorInfo(name, (2, 3)) for name in names),
            **info,
        }
        writer = RunWriter(path or tmp_path / f"{fields['name']}.steady", RunInfo(**fields))
        for step, row in enumerate(norms):
            writer.append(_reading(step, row, changes.get(step, {})))
        for finding in findings:
            writer.finding(finding)
        for incident in incidents:
            writer.incident(incident)
        writer.close()
        assert writer.fault is None
        return Path(writer.path)

    return write


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder of the test's own, and its folder to work in."""
    own = tmp_path / "home"
    own.mkdir()
    monkeypatch.setenv("HOME", str(own))
    monkeypatch.chdir(tmp_path)
    return own
