"""Each sink with the real logger, in a folder of its own, offline."""

from __future__ import annotations

import json
import math
import re
import sqlite3
import time
from contextlib import closing

import pytest
import torch

import steadygrad as sg
from steadygrad.errors import UsageError

# The loggers warn in their own code.
pytestmark = pytest.mark.filterwarnings("ignore")

STEPS = 12
BAD = 7


def train(*sinks):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.guard(model, optimizer) as guard:
        for sink in sinks:
            guard.send_to(sink)
        for step in range(STEPS):
            optimizer.zero_grad()
            loss = model(torch.randn(8, 4)).square().mean() * (math.nan if step == BAD else 1.0)
            guard.log(loss=loss)
            loss.backward()
            optimizer.step()
    return guard


def events(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    found.Reload()
    return found


def curve(found, name):
    return {point.step: point.value for point in found.Scalars(f"steadygrad/{name}")}


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    guard = train(sg.sinks.TensorBoard(tmp_path))
    found = events(tmp_path)
    norms = curve(found, "total_norm")
    assert set(norms) == {0, BAD, 10}
    assert math.isnan(norms[BAD])
    assert norms[10] == pytest.approx(guard.recent[10].total_norm)
    assert math.isnan(curve(found, "loss")[BAD])
    (kind,) = {finding.kind for finding in guard.findings}
    text = found.Tensors(f"steadygrad/{kind}")[0].tensor_proto.string_val[0].decode()
    assert f"at step {BAD}" in text
    assert "Try:" in text


def test_all_tensors_on_request(tmp_path):
    pytest.importorskip("tensorboard")
    train(sg.sinks.TensorBoard(tmp_path, every=1, worst=None))
    found = events(tmp_path)
    assert len(curve(found, "grad_norm/0.weight")) == STEPS
    assert sum("grad_norm" in tag for tag in found.Tags()["scalars"]) == 4


def test_recorded_run_to_tensorboard(tmp_path, record):
    pytest.importorskip("tensorboard")
    path = record([[1.0, 2.0], [math.nan, 2.0], [0.0, 3.0]], {1: {"skipped": True}})
    assert sg.sinks.write_tensorboard(sg.open_run(path), tmp_path / "logs") == 3
    found = events(tmp_path / "logs")
    weights = curve(found, "grad_norm/layers.0.weight")
    assert set(weights) == {0, 1}  # nothing where there was no gradient
    assert math.isnan(weights[1])
    assert curve(found, "skipped") == {0: 0.0, 1: 1.0, 2: 0.0}
    assert found.Scalars("steadygrad/skipped")[0].wall_time == pytest.approx(1.7e9, abs=100)


def test_wandb(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with pytest.raises(UsageError, match="no run is active"):
        sg.sinks.WandB()
    with wandb.init(project="p", mode="offline", dir=str(tmp_path)) as run:
        train(sg.sinks.WandB(run, commit=True))
        assert run.summary["steadygrad/step"] == 10
        assert run.summary["steadygrad/total_norm"] > 0
    # What is written for a later `wandb sync`; its records are whole in it, uncompressed.
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    alert = f"nonfinite_loss at step {BAD}".encode()  # its title
    # Another process writes it, and may do so when the run is over here.
    until = time.monotonic() + 30
    while alert not in (written := file.read_bytes()):
        assert time.monotonic() < until, "the alert was never written"
        time.sleep(0.2)
    assert re.search(rb"steadygrad/total_norm.{0,8}NaN", written, re.DOTALL)


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path}")
    mlflow.set_experiment("digits")
    with pytest.raises(UsageError, match="no run is active"):
        sg.sinks.MLflow()
    with mlflow.start_run() as run:
        guard = train(sg.sinks.MLflow())
    client = mlflow.MlflowClient()
    history = {
        point.step: point.value
        for point in client.get_metric_history(run.info.run_id, "steadygrad/total_norm")
    }
    assert set(history) == {0, BAD, 10}
    assert math.isnan(history[BAD])
    assert f"steadygrad.{guard.findings[0].kind}" in client.get_run(run.info.run_id).data.tags
    (story,) = tmp_path.glob("**/findings.md")
    assert "Try:" in story.read_text()


def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trackio = pytest.importorskip("trackio")
    run = trackio.init(project="p", name="r", embed=False)
    guard = train(sg.sinks.Trackio(run))
    trackio.finish()
    assert guard.summary().count("switched off") == 0
    (file,) = tmp_path.glob("*.db")
    with closing(sqlite3.connect(file)) as database:
        (title, text), *others = database.execute("select title, text from alerts").fetchall()
        rows = database.execute("select step, metrics from metrics").fetchall()
    assert (title, others) == (f"nonfinite_loss at step {BAD}", [])
    assert "Try:" in text
    norms = {
        step: values["steadygrad/total_norm"]
        for step, row in rows
        if "total_norm" in str(values := json.loads(row))
    }
    assert set(norms) == {0, BAD, 10}
    assert norms[BAD] == "NaN"
    assert norms[10] == pytest.approx(guard.recent[10].total_norm)


class Broken:
    calls = 0

    def reading(self, *args):
        self.calls += 1
        raise OSError("disk full")

    number = finding = reading

    def close(self):
        raise OSError("disk full")


def test_fault_in_a_sink_switches_it_off_and_nothing_else(capsys):
    sink = Broken()
    guard = train(sink)
    assert sink.calls == 1
    assert guard.counts.steps == STEPS
    assert "sink 0 (Broken)" in guard.summary()


def test_what_is_no_sink_is_refused():
    model = torch.nn.Linear(1, 1)
    with pytest.raises(UsageError, match="expected a sink such as"):
        sg.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)).send_to("logs")
