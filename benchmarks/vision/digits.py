"""Data sets for YOLO's tasks, drawn from scikit-learn's real handwritten digits; no download.

Each image is a canvas with a few digits on it. A digit's box is the extent of its ink; its four key points
are the top, right, bottom and left end of its strokes, which also make its outline. For classification each
image is one digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

SIDE = 96
"""Pixels; a multiple of 32, the coarsest stride of the models."""

_CELLS = 3
_INK = 6.0
"""Of 16 grey levels: below it a pixel is only the blur around a stroke."""


@dataclass(frozen=True, slots=True)
class Digit:
    """One digit on a canvas.

    Attributes:
        label: 0 to 9.
        points: top, right, bottom and left end of the ink, ``[4, 2]`` pixels (x, y).
    """

    label: int
    points: NDArray[np.float64]

    def row(self, task: str) -> str:
        """Its line in a label file, in shares of the side: class, and box, box and points, or outline."""
        low, high = self.points.min(0), self.points.max(0)
        numbers = [*((low + high) / 2 / SIDE), *((high - low) / SIDE)]
        if task == "pose":
            numbers += [value for x, y in self.points / SIDE for value in (x, y, 2)]
        if task == "segment":
            numbers = list((self.points / SIDE).ravel())
        return " ".join(["0", *(f"{value:.6g}" for value in numbers)])


def write_digits(folder: Path, task: str, *, train: int = 128, val: int = 64, seed: int = 0) -> Path:
    """Write images and labels.

    Args:
        folder: where to.
        task: ``detect``, ``pose``, ``segment`` or ``classify``.
        train: number of training images.
        val: number of validation images, of other digits.
        seed: of the drawing.

    Returns:
        What ``model.train(data=...)`` takes: the data set's yaml, for classification its folder.
    """
    digits = load_digits()
    if task == "classify":
        return _write_classes(folder, digits, train, val)
    rng = np.random.default_rng(seed)
    half = len(digits.images) // 2
    for split, count, first in (("train", train, 0), ("val", val, half)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            chosen = first + rng.choice(half, int(rng.integers(2, 5)), replace=False)
            canvas, found = _drawn(digits.images[chosen], digits.target[chosen], rng)
            Image.fromarray(canvas).convert("RGB").save(folder / "images" / split / f"{index:03}.png")
            rows = "\n".join(digit.row(task) for digit in found)
            (folder / "labels" / split / f"{index:03}.txt").write_text(rows + "\n")
    yaml = folder / "data.yaml"
    points = "kpt_shape: [4, 3]\nflip_idx: [0, 3, 2, 1]\n" if task == "pose" else ""
    yaml.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: [digit]\n{points}")
    return yaml


def _write_classes(folder: Path, digits: Any, train: int, val: int) -> Path:
    for split, first, last in (("train", 0, train), ("val", train, train + val)):
        for index in range(first, last):
            place = folder / split / str(digits.target[index])
            place.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray((digits.images[index] * 15.9).astype(np.uint8))
            small.resize((32, 32), Image.Resampling.BICUBIC).convert("RGB").save(place / f"{index:03}.png")
    return folder


def _drawn(
    images: NDArray[np.float64], labels: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Digit]]:
    """A canvas with these digits, each in a cell of its own."""
    canvas = rng.integers(0, 40, (SIDE, SIDE)).astype(np.uint8)
    cell = SIDE // _CELLS
    places = rng.choice(_CELLS * _CELLS, len(images), replace=False)
    found = []
    for image, label, place in zip(images, labels, places, strict=True):
        side = int(rng.integers(cell * 3 // 4, cell + 1))
        left, top = (int(place % _CELLS) * cell, int(place // _CELLS) * cell)
        small = Image.fromarray((image * 15.9).astype(np.uint8))
        ink = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
        patch = canvas[top : top + side, left : left + side]
        np.maximum(patch, ink, out=patch)
        found.append(Digit(int(label), _ends(ink > _INK * 15.9) + np.array((left, top))))
    return canvas, found


def _ends(ink: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Top, right, bottom and left end of the ink, ``[4, 2]`` (x, y)."""
    y, x = np.nonzero(ink)
    picks = (y.argmin(), x.argmax(), y.argmax(), x.argmin())
    return np.array([(x[i] + 0.5, y[i] + 0.5) for i in picks])
