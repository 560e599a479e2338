from pathlib import Path

import numpy as np
import pytest

from steadygrad.records import Finding, Incident, Reading
from steadygrad.runfile import RunWriter, open_run


def files_bytes(path):
    return sum(Path(path + end).stat().st_size for end in ("", "-wal") if Path(path + end).exists())


@pytest.mark.parametrize(("cap", "tensors", "steps"), [(270_000, 6, 25_000), (600_000, 76, 8_000)])
def test_the_file_stays_under_its_cap_and_keeps_what_matters(tmp_path, info, cap, tensors, steps):
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(0, 0.5, (997, tensors)))
    spike, found, peak = 123, steps // 3, 0
    writer = RunWriter(tmp_path / "a.steady", info(tensors), size_cap_bytes=cap)
    for step in range(steps):
        row = norms[step % 997] * (1e6 if step == spike else 1.0)
        writer.append(Reading(step, row, float(row.max()), loss=1.0))
        if step == found:
            writer.finding(Finding("x", "error", step, (), "s"))
        if step % 512 == 0:
            writer.flush()
            peak = max(peak, files_bytes(writer.path))
    writer.close()
    run = open_run(writer.path)
    assert writer.fault is None
    assert max(peak, files_bytes(writer.path)) <= cap
    assert run.resolution.sum() == run.step_count == steps
    assert run.resolution.max() >= 8
    assert (np.diff(run.steps) > 0).all()
    near = run.steps[run.resolution == 1]
    assert set(range(found - 256, found + 257)) <= set(near)
    assert set(range(steps - 500, steps)) <= set(near)
    assert run.total_norm_max.max() > 1e6 / 4
    row = int(np.searchsorted(run.steps, spike, "right")) - 1
    assert run.resolution[row] >= 8
    assert run.norms("layer.0", "max")[row] == pytest.approx(norms[spike, 0] * 1e6, rel=0.002)
    for row in np.flatnonzero(run.resolution > 1)[40:80]:
        values = norms[np.arange(run.steps[row], run.steps[row] + run.resolution[row]) % 997, 2]
        assert run.norms("layer.2", "min")[row] == pytest.approx(values.min(), rel=0.002)
        assert run.norms("layer.2")[row] == pytest.approx(values.mean(), rel=0.01)


def test_scalars_are_thinned_and_events_bounded_under_the_cap(tmp_path, info):
    cap, rng = 300_000, np.random.default_rng(0)
    writer = RunWriter(tmp_path / "a.steady", info(2), size_cap_bytes=cap)
    for step in range(20_000):
        writer.scalar(step, "loss", 1e9 if step == 77 else rng.normal())
        if step % 100 == 0:
            writer.incident(Incident(step, "skip", "poisoned" * 40))
    writer.finding(Finding("x", "error", 5, (), "s"))
    writer.close()
    run = open_run(writer.path)
    assert writer.fault is None
    assert files_bytes(writer.path) <= cap
    at, values = run.scalars("loss")
    assert values.max() == 1e9
    assert at[-100:].tolist() == list(range(19_900, 20_000))
    assert run.incidents[0].step == 0
    assert run.incidents[-1].step == 19_900
    assert len(run.incidents) + run.dropped_events == 200
    assert len(run.findings) == 1


def test_findings_everywhere_cant_break_the_cap(tmp_path, info):
    cap, norms = 300_000, np.exp(np.random.default_rng(0).normal(0, 0.5, (997, 6)))
    writer = RunWriter(tmp_path / "a.steady", info(6), size_cap_bytes=cap)
    for step in range(15_000):
        writer.append(Reading(step, norms[step % 997], 1.0))
        if step % 100 == 0:
            writer.finding(Finding("x", "error", step, (), "s"))
    writer.close()
    run = open_run(writer.path)
    assert (writer.fault, run.resolution.sum()) == (None, 15_000)
    assert files_bytes(writer.path) <= cap
    assert len(run.findings) + run.dropped_events == 150
