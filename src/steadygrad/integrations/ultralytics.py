"""Ultralytics: detection, pose, segmentation, classification and the rest of ``YOLO(...)``.

Attached through its callbacks, so that the code stays as it is, the command line's settings apply, and
worker processes of a training on several GPUs are guarded too.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

from steadygrad.errors import UsageError
from steadygrad.framework import require
from steadygrad.integrations.attaching import Mode, Wish
from steadygrad.integrations.yolo_training import YoloTraining

if TYPE_CHECKING:
    from steadygrad.monitor import Monitor
    from steadygrad.policies import Policy
    from steadygrad.records import Finding

_attached: weakref.WeakKeyDictionary[Any, Attachment] = weakref.WeakKeyDictionary()


class Attachment:
    """What `attach` returns: the guard of the training that runs, or of the last one.

    Args:
        wish: what to attach when a training begins.
    """

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self._training: YoloTraining | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """A training on several GPUs sends its callbacks to other processes: there it begins anew."""
        return (Attachment, (self.wish,))

    @property
    def guard(self) -> Monitor | None:
        """The monitor; None before the first training and in the process that only starts others."""
        return None if self._training is None else self._training.monitor

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, oldest first."""
        return () if self.guard is None else self.guard.findings

    def summary(self) -> str:
        """What happened so far, for a person."""
        return "no training has begun in this process" if self.guard is None else self.guard.summary()

    # What follows is called by the trainer, with itself.

    def on_train_start(self, trainer: Any) -> None:
        """Everything is built: attach."""
        self.train(trainer, self.wish)

    def train(self, trainer: Any, wish: Wish) -> Monitor:
        """Attach what is wished for to a trainer that is about to train."""
        self._training = YoloTraining(trainer, wish)
        return self._training.monitor

    def on_train_epoch_start(self, trainer: Any) -> None:
        """An epoch begins."""
        if self._training is not None:
            self._training.epoch_began()

    def on_train_batch_end(self, trainer: Any) -> None:
        """A batch has ended."""
        if self._training is not None:
            self._training.batch_ended()

    def on_train_epoch_end(self, trainer: Any) -> None:
        """An epoch has ended; validation comes next."""
        if self._training is not None:
            self._training.epoch_ended()

    def teardown(self, trainer: Any) -> None:
        """The training has ended, well or not."""
        if self._training is not None:
            self._training.close()

    def listen_to(self, model: Any) -> None:
        """Have a trainer, or the trainers that a model makes, call."""
        for event in _EVENTS:
            model.add_callback(event, getattr(self, event))


_EVENTS = ("on_train_start", "on_train_epoch_start", "on_train_batch_end", "on_train_epoch_end", "teardown")


def require_ultralytics() -> None:
    """Raise a FrameworkMissing where Ultralytics is absent or too old."""
    require("ultralytics", "8.3", extra="ultralytics")


def attach(
    model: Any,
    *,
    mode: Mode = "guard",
    policy: Policy | None = None,
    run: str | os.PathLike[str] | None = None,
    max_consecutive_skips: int | None = 10,
) -> Attachment:
    """Guard every training of a ``YOLO`` model: the two lines are this import and this call.

    A batch that turns out non-finite costs one optimizer step and nothing else: weights, optimizer state,
    BatchNorm's running statistics and the moving average that becomes ``best.pt`` stay finite, and a
    checkpoint that isn't healthy is never written over one that is. The finding names the terms of the
    loss (``box_loss``, ``dfl_loss``, ``pose_loss`` ...) and the image files that carry the fault.
    Ultralytics' own clip (total norm 10) stays; norms are measured before it.

    Args:
        model: a ``YOLO``, ``RTDETR`` ... object, or a trainer of Ultralytics.
        mode: ``guard`` acts; ``watch`` records and reports, and never changes a number.
        policy: what to do with finite gradients; None is `steadygrad.policies.auto`.
        run: path of the run file; None records nothing. Each rank and each training has its own.
        max_consecutive_skips: skipped steps in a row after which the training is stopped.

    Returns:
        The attachment: ``.guard``, ``.findings``, ``.summary()``. The one that is there already, if there
        is one.

    Raises:
        FrameworkMissing: Ultralytics is absent or too old.
        UsageError: ``model`` takes no callbacks, or an argument is out of range.

    Example:
        >>> from ultralytics import YOLO                          # doctest: +SKIP
        >>> from steadygrad.integrations import ultralytics       # doctest: +SKIP
        >>> model = YOLO("yolo11n-pose.yaml")                     # doctest: +SKIP
        >>> attached = ultralytics.attach(model, run="pose.steady")    # doctest: +SKIP
        >>> model.train(data="coco8-pose.yaml", epochs=3)         # doctest: +SKIP
        >>> print(attached.summary())                             # doctest: +SKIP
    """
    require_ultralytics()
    if not hasattr(model, "add_callback"):
        raise UsageError(
            f"ultralytics.attach(model): expected a YOLO(...) object or one of Ultralytics' trainers, got "
            f"{type(model).__name__}. For a torch.nn.Module and an optimizer of your own use steadygrad.guard."
        )
    wish = Wish("ultralytics.attach", mode, policy, run, max_consecutive_skips)
    present = _attached.get(model)
    if present is not None:
        wish.check_met_by(present.wish)
        return present
    attachment = _attached[model] = Attachment(wish)
    attachment.listen_to(model)
    return attachment
