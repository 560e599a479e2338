"""Small vision trainings, made on the spot: nothing is downloaded.

They need torchvision, which lives in an environment of its own: `make test-vision`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

collect_ignore_glob = ["test_*.py"] if find_spec("torchvision") is None else []

IMAGES = 16
SIZE = 64


@pytest.fixture(scope="session")
def boxes_data(tmp_path_factory) -> Path:
    """A detection data set in YOLO's layout: bright rectangles on noise."""
    from PIL import Image

    root = tmp_path_factory.mktemp("boxes")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for index in range(IMAGES):
            pixels = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
            left, top = rng.integers(4, 30, 2)
            width, height = rng.integers(12, 28, 2)
            pixels[top : top + height, left : left + width] = rng.integers(160, 255, 3)
            Image.fromarray(pixels).save(root / "images" / split / f"{index}.png")
            box = (left + width / 2, top + height / 2, width, height)
            numbers = " ".join(f"{value / SIZE:.6f}" for value in box)
            (root / "labels" / split / f"{index}.txt").write_text(f"{index % 2} {numbers}\n")
    data = root / "data.yaml"
    data.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: [dark, bright]\n")
    return data
