"""Each example runs as it stands, in a folder of its own, and says what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {
    "plain_loop": ("sklearn",),
    "pipeline": (),
    "lightning_trainer": ("sklearn", "lightning"),
    "transformers_trainer": ("transformers", "accelerate"),
    "accelerate_loop": ("sklearn", "accelerate"),
    "tensorboard_logger": ("sklearn", "tensorboard"),
    "sweep": ("sklearn",),
    "timm_scaler": ("sklearn", "timm"),
    "ultralytics_yolo": ("sklearn", "ultralytics"),
}
SAYS = {
    "plain_loop": "nonfinite_input",
    "pipeline": "1 skipped",
    "lightning_trainer": "2 skipped",
    "transformers_trainer": "1 skipped",
    "accelerate_loop": "5 skipped",
    "tensorboard_logger": "steps clipped",
    "sweep": "stopped early: ",
    "timm_scaler": "1 skipped",
    "ultralytics_yolo": "pixels of images/train/",
}


def test_every_example_is_run_here_and_short():
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert {script.stem for script in scripts} == set(NEEDS) == set(SAYS)
    for script in scripts:
        assert len(script.read_text(encoding="utf-8").splitlines()) < 80, script.name


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_runs_as_it_stands(name, tmp_path):
    missing = [module for module in NEEDS[name] if find_spec(module) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "YOLO_CONFIG_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    assert "switched off" not in done.stdout
    assert "fault in steadygrad" not in done.stderr
