"""Ultralytics: one call. A batch with a NaN pixel costs one step, and the finding names the file."""

import math
import os
import tempfile
from pathlib import Path

os.environ.setdefault("YOLO_OFFLINE", "true")  # nothing is downloaded

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from ultralytics import YOLO

from steadygrad.integrations import ultralytics


def write_data(folder: Path) -> Path:
    """One digit an image, and its box."""
    for split, images in (("train", load_digits().images[:32]), ("val", load_digits().images[32:40])):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index, image in enumerate(images):
            canvas = np.zeros((64, 64), np.uint8)
            canvas[16:48, 16:48] = (image * 15.9).astype(np.uint8).repeat(4, 0).repeat(4, 1)
            Image.fromarray(canvas).convert("RGB").save(folder / "images" / split / f"{index}.png")
            (folder / "labels" / split / f"{index}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "data.yaml").write_text(
        f"path: {folder}\ntrain: images/train\nval: images/val\nnames: [digit]\n"
    )
    return folder / "data.yaml"


def spoil(trainer) -> None:  # noqa: ANN001 - of Ultralytics
    """One NaN pixel in the first batch, as a broken augmentation leaves it."""
    clean, seen = trainer.preprocess_batch, []

    def preprocess_batch(batch: dict) -> dict:
        batch = clean(batch)
        if not seen:
            seen.append(True)
            batch["img"][0, 0, 5, 5] = math.nan
        return batch

    trainer.preprocess_batch = preprocess_batch


with tempfile.TemporaryDirectory() as scratch:
    model = YOLO("yolo11n.yaml")
    model.add_callback("on_pretrain_routine_end", spoil)
    attached = ultralytics.attach(model, run="yolo.steady")
    model.train(
        data=str(write_data(Path(scratch))), epochs=2, imgsz=64, batch=8, nbs=8, device="cpu", workers=0,
        pretrained=False, amp=False, plots=False, verbose=False, project=scratch,
    )  # fmt: skip
    print(attached.summary())
