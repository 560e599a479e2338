"""One tiny training of YOLO detection or pose, on the CPU, with one NaN pixel if wished."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read when ultralytics is imported: nothing is downloaded, installed or written outside a scratch folder.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_VERBOSE", "false")
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="yolo-"))

import torch
from ultralytics import YOLO
from ultralytics.utils.patches import torch_load

from steadygrad.integrations import ultralytics as guarding
from steadygrad.policies import Policy

MODELS = {
    "detect": "yolo11n.yaml",
    "pose": "yolo11n-pose.yaml",
    "segment": "yolo11n-seg.yaml",
    "classify": "yolo11n-cls.yaml",
}


@dataclass(frozen=True, slots=True)
class Poison:
    """One NaN pixel in the first image of one batch, as a broken decoder or augmentation leaves it.

    Attributes:
        epoch: counted from 0.
        position: 0.0 is the first batch of the epoch, 1.0 the last.
    """

    epoch: int
    position: float

    def attach(self, model: Any, poisoned: list[str]) -> None:
        """Have the pixel put in between the loader and the model; note the file."""

        def begin(trainer: Any) -> None:
            original, at = trainer.preprocess_batch, self._batch(len(trainer.train_loader))
            seen = {"epoch": -1, "batch": 0}

            def preprocess_batch(batch: Any) -> Any:
                batch = original(batch)
                fresh = trainer.epoch != seen["epoch"]
                seen.update(epoch=trainer.epoch, batch=0 if fresh else seen["batch"] + 1)
                if seen == {"epoch": self.epoch, "batch": at}:
                    batch["img"][0, 0, 5, 5] = math.nan
                    poisoned.append(batch.get("im_file", [""])[0])
                return batch

            trainer.preprocess_batch = preprocess_batch

        model.add_callback("on_pretrain_routine_end", begin)

    def _batch(self, batches: int) -> int:
        return round(self.position * (batches - 1))


@dataclass(frozen=True, slots=True)
class Result:
    """How a training ended.

    Attributes:
        error: the exception that ended it; empty if it finished.
        epochs: epochs begun, repeated ones counted again.
        steps: optimizer steps asked for.
        updates: updates of the moving average of the weights.
        fitness: mAP50-95 of the best weights on the validation images (box, and pose where there is one).
        nonfinite: what of weights, running statistics, moving average, optimizer and files isn't finite.
        skipped: steps that the guard left out.
        findings: what the guard said.
        poisoned: files that got the pixel.
        state: weights and running statistics at the end.
    """

    error: str
    epochs: int
    steps: int
    updates: int
    fitness: float
    nonfinite: tuple[str, ...]
    skipped: int
    findings: tuple[str, ...]
    poisoned: tuple[str, ...]
    state: dict[str, torch.Tensor] = field(repr=False)


def train(
    task: str,
    data: Path,
    folder: Path,
    *,
    mode: str | None,
    poison: Poison | None = None,
    epochs: int = 3,
    seed: int = 0,
    run: Path | None = None,
    policy: Policy | None = None,
    **settings: Any,
) -> Result:
    """Train once.

    Args:
        task: key of `MODELS`.
        data: the data set's yaml.
        folder: where Ultralytics and the run file go.
        mode: ``guard``, ``watch``, or None for plain Ultralytics.
        poison: when to put the pixel in; None for a clean run.
        epochs: how many.
        seed: of weights, data order and augmentation.
        run: the run file of a guard or watch; by default in ``folder``.
        policy: of a guard.
        settings: anything else for ``model.train``.
    """
    model = YOLO(MODELS[task])
    poisoned: list[str] = []
    seen = _Seen(model)
    if poison is not None:
        poison.attach(model, poisoned)
    attached = None
    if mode is not None:
        attached = guarding.attach(model, mode=mode, policy=policy, run=run or folder / "train.steady")
    arguments = {
        "data": str(data), "epochs": epochs, "seed": seed, "imgsz": 96, "batch": 16, "nbs": 16, "device": "cpu",
        "workers": 0, "pretrained": False, "amp": False, "plots": False, "cache": False, "exist_ok": True,
        "verbose": False, "project": str(folder), "name": "yolo",
        "warmup_epochs": 1.0, "mosaic": 0.0, "fliplr": 0.0, "close_mosaic": 0, **settings,
    }  # fmt: skip
    error = ""
    try:
        model.train(**arguments)
    except Exception as failure:  # noqa: BLE001 - how a training dies is the result
        error = f"{type(failure).__name__}: {failure}"
    guard = attached.guard if attached else None
    return Result(
        error=error,
        epochs=seen.epochs,
        steps=seen.steps,
        updates=seen.trainer.ema.updates,
        fitness=_fitness(seen.trainer),
        nonfinite=_nonfinite(seen.trainer, folder / "yolo" / "weights"),
        skipped=guard.counts.skipped if guard else 0,
        findings=tuple(map(str, guard.findings)) if guard else (),
        poisoned=tuple(poisoned),
        state=seen.trainer.model.state_dict(),
    )


class _Seen:
    """Counts what a trainer does, by its own callbacks."""

    def __init__(self, model: Any) -> None:
        self.trainer: Any = None
        self.epochs = self.steps = 0
        model.add_callback("on_train_start", self.began)
        model.add_callback("on_train_epoch_start", self.epoch)

    def began(self, trainer: Any) -> None:
        self.trainer = trainer
        trainer.optimizer.register_step_pre_hook(self.step)

    def epoch(self, trainer: Any) -> None:
        self.epochs += 1

    def step(self, *_: Any) -> None:
        self.steps += 1


def _fitness(trainer: Any) -> float:
    return math.nan if trainer.best_fitness is None else float(trainer.best_fitness)


def _nonfinite(trainer: Any, weights: Path) -> tuple[str, ...]:
    parts: dict[str, Any] = {
        "weights": dict(trainer.model.named_parameters()),
        "running statistics": dict(trainer.model.named_buffers()),
        "moving average": trainer.ema.ema.state_dict(),
        "optimizer": trainer.optimizer.state_dict()["state"],
    }
    for file in sorted(weights.glob("*.pt")):
        saved = torch_load(file, map_location="cpu", weights_only=False)
        parts[f"{file.name} weights"] = (saved.get("ema") or saved["model"]).state_dict()
        parts[f"{file.name} optimizer"] = saved.get("optimizer") or {}
    return tuple(name for name, values in parts.items() if not _finite(values))


def _finite(values: Any) -> bool:
    if isinstance(values, dict):
        return all(map(_finite, values.values()))
    if isinstance(values, (list, tuple)):
        return all(map(_finite, values))
    return not isinstance(values, torch.Tensor) or bool(torch.isfinite(values).all())
