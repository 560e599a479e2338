"""Trainings of Ultralytics under ``steadygrad run``, with nothing of ours in the script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steadygrad import open_run
from steadygrad.runfile.own_clip import own_clip

pytestmark = pytest.mark.slow

TRAINING = """
import math, sys
import torch
from ultralytics import YOLO
from ultralytics.utils.patches import torch_load

data, poisoned = sys.argv[1], int(sys.argv[2])
model = YOLO("yolo11n.yaml")

def begin(trainer):
    original, seen = trainer.preprocess_batch, []

    def preprocess_batch(batch):
        batch = original(batch)
        if len(seen) == poisoned:
            batch["img"][0, 0, 5, 5] = math.nan
        seen.append(1)
        return batch

    trainer.preprocess_batch = preprocess_batch

def finite(value):
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, (dict, list, tuple)):
        return all(map(finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, torch.Tensor) or bool(torch.isfinite(value).all())

model.add_callback("on_pretrain_routine_end", begin)
model.train(
    data=data, epochs=1, imgsz=64, batch=8, nbs=8, workers=0, device="cpu", project="out", pretrained=False,
    amp=False, plots=False, verbose=False,
)
saved = torch_load(model.trainer.last, map_location="cpu", weights_only=False)
sums = [repr(p.double().sum().item()) for p in model.trainer.model.parameters()]
print("finite", finite(saved), finite(model.trainer.model), finite(model.trainer.ema.ema))
print("weights", *sums)
"""


@pytest.fixture
def run(boxes_data, tmp_path):
    pytest.importorskip("ultralytics", reason="needs the vision environment")
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    quiet = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(tmp_path)}

    def start(*words):
        words = [word.replace("DATA", str(boxes_data)) for word in words]
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            cwd=tmp_path,
            env={**os.environ, **quiet, "YOLO_VERBOSE": "false"},
        )
        assert done.returncode == 0, done.stderr
        return done

    return start


def last_lines(done, count):
    return done.stdout.splitlines()[-count:]


def test_a_poisoned_first_batch_costs_one_step(run, tmp_path):
    done = run("-m", "steadygrad", "run", "--guard", "train.py", "DATA", "0")
    assert last_lines(done, 2)[0] == "finite True True True"
    assert "guarded 2 steps of DetectionModel (1 skipped), nonfinite_input at step 0" in done.stderr
    recorded = open_run(tmp_path / "steadygrad-runs" / "train.steady")
    (finding,) = recorded.findings
    assert "NaN or Inf in the pixels of images/train/" in finding.summary
    assert "loss terms box_loss, cls_loss, dfl_loss" in finding.summary


def test_the_console_script_is_guarded_too_and_its_own_clip_told(run, tmp_path):
    yolo = str(Path(sys.executable).with_name("yolo"))
    settings = "imgsz=64 batch=8 nbs=8 epochs=1 workers=0 device=cpu pretrained=False amp=False plots=False project=out"
    words = ["detect", "train", "model=yolo11n.yaml", "data=DATA", *settings.split()]
    done = run("-m", "steadygrad", "run", "--guard", yolo, *words)
    assert "guarded 2 steps of DetectionModel, nothing found" in done.stderr
    recorded = open_run(tmp_path / "steadygrad-runs" / "yolo.steady")
    assert "model.0.conv.weight" in {tensor.name for tensor in recorded.info.tensors}
    clip = own_clip(recorded)
    assert max(clip.before) > 10.001
    assert max(clip.after) <= 10.001
