"""timm's training loop under ``steadygrad run``, with nothing of ours in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steadygrad import open_run
from steadygrad.runfile.own_clip import own_clip

pytest.importorskip("timm", reason="needs the vision environment")

pytestmark = pytest.mark.slow

SCRIPT = str(Path(__file__).parents[1] / "launch" / "scripts" / "timm_train.py")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Zeros and ones, a folder each."""
    from PIL import Image
    from sklearn.datasets import load_digits

    root = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(n_class=2, return_X_y=True)
    for index, (image, label) in enumerate(zip(images[:72], labels[:72], strict=True)):
        folder = root / ("train" if index < 56 else "val") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (image.reshape(8, 8) * 15.9).astype("uint8")
        Image.fromarray(pixels).resize((32, 32)).convert("RGB").save(folder / f"{index}.png")
    return root


@pytest.fixture
def run(digits, tmp_path):
    def start(*words, ours=()):
        done = subprocess.run(
            [sys.executable, *ours, SCRIPT, str(digits), *words],
            capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    return start


OURS = ("-m", "steadygrad", "run", "--guard")


@pytest.mark.parametrize(
    "words",
    [("--clip-grad", "0.05"), ("--clip-grad", "0.01", "--clip-mode", "agc"), ("--amp", "--clip-grad", "0.05", "--accum", "2")],
    ids=["norm", "agc", "amp"],
)  # fmt: skip
def test_a_healthy_training_prints_the_same_weights(run, tmp_path, words):
    plain, guarded = run(*words), run(*words, ours=OURS)
    assert guarded.stdout == plain.stdout
    steps = 6 if "--accum" in words else 14
    assert f"guarded {steps} steps of ResNet, nothing found" in guarded.stderr
    recorded = open_run(tmp_path / "steadygrad-runs" / "timm_train.steady")
    assert "conv1.0.weight" in {tensor.name for tensor in recorded.info.tensors}
    if "0.05" in words:
        clip = own_clip(recorded)
        assert min(recorded.total_norm) > 0.05
        assert max(clip.after) <= 0.0501


@pytest.mark.parametrize("step", [0, 9])
def test_a_poisoned_batch_costs_one_step(run, step):
    guarded = run("--clip-grad", "1.0", "--poison", str(step), ours=OURS)
    assert "weights finite" in guarded.stdout
    assert "ema finite" in guarded.stdout
    assert f"guarded 14 steps of ResNet (1 skipped), nonfinite_input at step {step}" in guarded.stderr


@pytest.mark.parametrize("step", [0, 9])
@pytest.mark.parametrize("words", [("--amp",), ("--amp", "--clip-grad", "1.0")], ids=["alone", "clip"])
def test_a_step_that_timms_scaler_leaves_out_costs_the_moving_average_nothing(run, words, step):
    guarded = run(*words, "--poison", str(step), ours=OURS)
    assert "weights finite" in guarded.stdout
    assert "ema finite" in guarded.stdout
    told = f"guarded 14 steps of ResNet (1 left out by the loss scaler), nonfinite_input at step {step}"
    assert told in guarded.stderr
