from __future__ import annotations

import math

import pytest

import steadygrad as sg


@pytest.fixture
def yolo(monkeypatch, tmp_path):
    """``YOLO`` that neither downloads, installs nor writes outside the test's folder."""
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    monkeypatch.setenv("YOLO_AUTOINSTALL", "false")
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    ultralytics = pytest.importorskip("ultralytics", reason="needs the vision environment")
    return ultralytics.YOLO


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the trainer's own warnings are not ours to judge
def test_yolo_detection_trains_under_a_guard(yolo, boxes_data, tmp_path):
    model = yolo("yolo11n.yaml")
    guards = []

    def attach(trainer):
        run = tmp_path / "yolo.steady"
        guards.append(sg.guard(trainer.model, trainer.optimizer, run=run))

    model.add_callback("on_train_start", attach)
    model.train(
        data=str(boxes_data), epochs=2, imgsz=64, batch=8, nbs=8, workers=0, device="cpu", project=str(tmp_path),
        pretrained=False, amp=False, plots=False, cache=False, exist_ok=True, verbose=False,
    )  # fmt: skip
    (guard,) = guards
    reading = guard.last
    assert guard.counts.steps >= 2
    assert math.isfinite(reading.total_norm)
    guard.close()
    run = sg.open_run(guard.run)
    assert len(run.steps) == guard.counts.steps
    # Names are those of the user's module tree, not of the optimizer's groups.
    assert run.norms("model.0.conv.weight").shape == run.steps.shape
