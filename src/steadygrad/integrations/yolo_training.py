"""One training of Ultralytics under watch or guard.

Its trainer clips, steps, updates the moving average of the weights and saves, whatever the numbers are. A
batch with a NaN so reaches the running statistics in the forward pass, the weights and the optimizer's
moments in the step, the moving average after it, and the files at the end of the epoch. Each is stopped
where it happens; what the trainer takes as the sign of a lost run (the last loss) is put right, because the
run isn't lost: otherwise it would repeat the epoch, with the same batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.containment import Containment
from steadygrad.integrations.attaching import Wish
from steadygrad.integrations.borrowed import Borrowed
from steadygrad.integrations.kept_buffers import KeptBuffers
from steadygrad.integrations.yolo_batches import Batches

MAX_NORM = 10.0
"""What Ultralytics clips to, since 8.0; no setting changes it."""


class YoloTraining:
    """What is done to one trainer from the start of its training to its end.

    Args:
        trainer: an ``ultralytics.engine.trainer.BaseTrainer`` whose training begins.
        wish: what to attach.
    """

    def __init__(self, trainer: Any, wish: Wish) -> None:
        model = _unwrapped(trainer.model)
        self.monitor = wish.of_this_rank().attach(model, trainer.optimizer)
        self._trainer = trainer
        self._acts = self.monitor.mode == "guard"
        self._contained = Containment(lambda text: self.monitor.say("integration", text)).run
        self._batches = Batches()
        self._buffers = KeptBuffers(model)
        self._loss: Tensor | None = None
        self._means: dict[str, Tensor] | None = None
        self._steps = 0
        self._settled = False
        self._max_norm = _own_clip(trainer)
        self._borrowed = Borrowed()
        self._borrowed.wrap(trainer, "preprocess_batch", self._preprocessing)
        self._borrowed.wrap(trainer.scaler, "unscale_", self._unscaling)
        if self._acts:
            self._borrowed.wrap(trainer, "save_model", self._saving)
        self.monitor.tell_with(self._batches.told)

    def epoch_began(self) -> None:
        """The trainer starts its mean of the loss anew."""
        self._means = None

    def batch_ended(self) -> None:
        """The batch has been stepped on, or its gradients wait for the next ones."""
        if self._acts:
            self._contained("repair of an Ultralytics batch", self._mend)

    def epoch_ended(self) -> None:
        """Validation comes next, with the moving average."""
        if self._acts:
            self._average(True)

    def close(self) -> None:
        """Give everything back and close the monitor."""
        self._borrowed.give_back()
        self.epoch_ended()
        self.monitor.close()

    def _preprocessing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def preprocess_batch(batch: Any) -> Any:
            batch = original(batch)
            self._contained("note of a batch", self._batches.note, batch)
            return batch

        return preprocess_batch

    def _unscaling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Between here and the step Ultralytics clips: the last place with the gradients as they came."""

        def unscale_(optimizer: Any) -> Any:
            result = original(optimizer)
            if optimizer is self._trainer.optimizer:
                self._before_step()
            return result

        return unscale_

    def _before_step(self) -> None:
        terms = self._contained("loss terms", self._lost) or {}
        self._contained("note of a step", self._batches.stepped, self._steps)
        self._steps += 1
        self._contained("log of the loss", self._log, terms)
        norm = self.monitor.clip_(max_norm=self._max_norm)
        if self._acts:
            self._contained("repair of buffers", self._buffers.settle)
            self._settled = True
            # On an accelerator the host doesn't know; there the average moves towards weights that stayed.
            self._average(norm.device.type != "cpu" or math.isfinite(norm))

    def _log(self, terms: Mapping[str, Tensor]) -> None:
        self.monitor.log(loss=self._trainer.loss.detach(), **terms)

    def _lost(self) -> Mapping[str, Tensor]:
        terms = _terms(self._trainer)
        self._batches.lost(terms)
        return {name: value for name, value in terms.items() if name != "loss"}

    def _average(self, on: bool) -> None:  # noqa: FBT001 - a switch
        average = self._trainer.ema
        if average is not None:
            average.enabled = on

    def _mend(self) -> None:
        trainer = self._trainer
        self._average(True)
        if not self._settled:  # no step followed this batch
            self._buffers.settle()
        self._settled = False
        # Ultralytics has just read the loss for its progress bar, so reading it here waits for nothing.
        if math.isfinite(trainer.loss.detach()):
            self._loss, self._means = trainer.loss.detach(), trainer.tloss
            return
        self._batches.lost(_terms(trainer))
        trainer.loss = torch.zeros_like(trainer.loss) if self._loss is None else self._loss
        if self._means is not None:
            trainer.tloss = self._means

    def _saving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def save_model() -> Any:
            ruined = self._contained("check of a checkpoint", self._ruined)
            if not ruined:
                return original()
            self.monitor.say(
                "checkpoint",
                f"epoch {self._trainer.epoch}: checkpoint not written, {ruined} non-finite; the last one is kept",
            )
            return False

        return save_model

    def _ruined(self) -> str:
        """What a checkpoint would hold that no training can go on from; empty if it is healthy."""
        trainer = self._trainer
        if not _finite(trainer.optimizer.state_dict()["state"]):
            return "the optimizer's state is"
        if not _finite(_unwrapped(trainer.model).state_dict()):
            return "weights or running statistics are"
        return "" if _finite(trainer.ema.ema.state_dict()) else "the moving average of the weights is"


def _own_clip(trainer: Any) -> float | None:
    """Total norm that this trainer clips to; None where its steps aren't Ultralytics' own.

    Whoever wants another number has to override the step, as its documentation says.
    """
    kind: Any = type(trainer)
    base: Any = next((one for one in kind.__mro__ if one.__name__ == "BaseTrainer"), None)
    return MAX_NORM if base is not None and kind.optimizer_step is base.optimizer_step else None


def _unwrapped(model: nn.Module) -> nn.Module:
    """The module inside of the compiled and the distributed one."""
    for name in ("_orig_mod", "module"):
        inner = getattr(model, name, None)
        model = inner if isinstance(inner, nn.Module) else model
    return model


def _terms(trainer: Any) -> dict[str, Tensor]:
    """The terms of the loss by name; older releases have them in one tensor."""
    items = trainer.loss_items
    if isinstance(items, Mapping):
        return dict(items)
    # Some name a term more than there are numbers.
    return dict(zip(trainer.loss_names, items.reshape(-1), strict=False))


def _finite(values: Any) -> bool:
    if isinstance(values, Mapping):
        return all(map(_finite, values.values()))
    return not isinstance(values, Tensor) or bool(torch.isfinite(values).all())
