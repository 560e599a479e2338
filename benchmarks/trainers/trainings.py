"""A training of tens of milliseconds a step or more in each trainer, plain or under the integration's guard.

Each framework is imported where it is used: two environments have different ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

import steadygrad as sg

Step = Callable[[], None]
BATCH = 16


def images(steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of noise with labels."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(BATCH, 3, 32, 32, generator=generator), torch.randint(10, (BATCH,), generator=generator))
        for _ in range(steps)
    ]


def network() -> nn.Module:
    """A residual-free CNN of 24 parameters tensors, 0.7 M numbers."""
    layers: list[nn.Module] = []
    widths = [3, 32, 64, 64, 128, 128, 256]
    for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if index % 2 else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def lightning(step: Step, steps: int, *, guarded: bool) -> None:
    """Lightning, automatic optimization with its own clip."""
    from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: PLC0415 - as said above

    from steadygrad.integrations.lightning import SteadygradCallback  # noqa: PLC0415

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: Any) -> torch.Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    class Tell(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            step()

    with tempfile.TemporaryDirectory() as folder:
        own = [SteadygradCallback(run=Path(folder) / "a.steady")] if guarded else []
        trainer = Trainer(
            max_epochs=1, callbacks=[Tell(), *own], logger=False, enable_checkpointing=False, accelerator="cpu",
            devices=1, enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0,
        )  # fmt: skip
        trainer.fit(Module(), torch.utils.data.DataLoader(images(steps), batch_size=None))


def transformers(step: Step, steps: int, *, guarded: bool, length: int = 64) -> None:
    """Transformers' ``Trainer`` on a small GPT-2, with its own clip, on sequences of ``length`` tokens."""
    from transformers import (  # noqa: PLC0415
        GPT2Config,
        GPT2LMHeadModel,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from steadygrad.integrations.transformers import SteadygradCallback  # noqa: PLC0415

    class Tell(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            step()

    config = GPT2Config(
        n_layer=4, n_head=4, n_embd=128, vocab_size=512, n_positions=length, bos_token_id=0, eos_token_id=0
    )
    rows = torch.randint(512, (8 * steps, length), generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        own = [SteadygradCallback(run=Path(folder) / "a.steady")] if guarded else []
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=8, max_steps=steps, report_to=[], use_cpu=True, save_strategy="no",
            disable_tqdm=True, logging_steps=steps,
        )  # fmt: skip
        data = [{"input_ids": row, "labels": row} for row in rows]
        Trainer(GPT2LMHeadModel(config), arguments, train_dataset=data, callbacks=[Tell(), *own]).train()


def accelerate(step: Step, steps: int, *, guarded: bool) -> None:
    """A loop of Accelerate that clips."""
    from accelerate import Accelerator  # noqa: PLC0415

    from steadygrad.integrations.accelerate import attach  # noqa: PLC0415

    accelerator, net = Accelerator(cpu=True), network()
    net, optimizer = accelerator.prepare(net, torch.optim.AdamW(net.parameters(), lr=1e-3))
    with tempfile.TemporaryDirectory() as folder:
        guard = attach(accelerator, net, optimizer, run=Path(folder) / "a.steady") if guarded else None
        for inputs, labels in images(steps):
            step()
            accelerator.backward(F.cross_entropy(net(inputs), labels))
            accelerator.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        if guard is not None:
            guard.close()


def timm(step: Step, steps: int, *, guarded: bool, size: int = 64) -> None:
    """A loop as in timm's train.py, with its own clip, on images of ``size`` pixels."""
    from timm import create_model  # noqa: PLC0415
    from timm.optim import create_optimizer_v2  # noqa: PLC0415
    from timm.utils import NativeScaler as Plain  # noqa: PLC0415

    from steadygrad.integrations.timm import NativeScaler  # noqa: PLC0415

    net = create_model("resnet10t", num_classes=10)
    optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-3)
    with tempfile.TemporaryDirectory() as folder:
        guard = sg.guard(net, optimizer, run=Path(folder) / "a.steady") if guarded else None
        scaler = Plain("cpu") if guard is None else NativeScaler(guard, "cpu")
        for inputs, labels in images(steps):
            step()
            loss = F.cross_entropy(net(F.interpolate(inputs, size=size)), labels)
            scaler(loss, optimizer, clip_grad=1.0, parameters=net.parameters())
            optimizer.zero_grad()
        if guard is not None:
            guard.close()


def ultralytics(step: Step, steps: int, *, guarded: bool, size: int = 96, batch: int = 8) -> None:
    """YOLO detection on handwritten digits, a step a batch."""
    from benchmarks.vision.digits import write_digits  # noqa: PLC0415
    from benchmarks.vision.trainings import YOLO, guarding  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        data = write_digits(Path(folder) / "data", "detect", train=batch * steps, val=8)
        model = YOLO("yolo11n.yaml")
        model.add_callback("on_train_batch_start", lambda _: step())
        if guarded:
            guarding.attach(model, run=Path(folder) / "a.steady")
        model.train(
            data=str(data), epochs=1, imgsz=size, batch=batch, nbs=batch, device="cpu", workers=0, pretrained=False, amp=False,
            plots=False, verbose=False, project=folder, name="yolo", mosaic=0.0, val=False,
        )  # fmt: skip


TRAINERS: dict[str, Callable[..., None]] = {
    "lightning": lightning,
    "transformers": transformers,
    "transformers_512": partial(transformers, length=512),
    "accelerate": accelerate,
    "timm": timm,
    "timm_224": partial(timm, size=224),
    "ultralytics": ultralytics,
    "ultralytics_640": partial(ultralytics, size=640, batch=2),
}
