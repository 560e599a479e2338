"""Transformers: a callback, in the ``Trainer``'s list of callbacks.

``Trainer`` tells its callbacks neither the loss nor the gradients as they came: ``on_pre_optimizer_step``
is called after the clip, the clip of ``max_grad_norm=0`` turns one Inf into NaN everywhere, and the log
filter writes 0.0 where the loss was NaN. So the callback measures at the accelerator that the trainer uses.
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from steadygrad.framework import require

require("transformers", "4.46", extra="transformers")
require("accelerate", "1.0", extra="transformers")

from transformers import Trainer, TrainerCallback  # noqa: E402 - asked for just above

from steadygrad.integrations.accelerate import attach_clipping  # noqa: E402
from steadygrad.integrations.accelerate_clips import Clips  # noqa: E402
from steadygrad.integrations.attaching import Mode, Wish  # noqa: E402

if TYPE_CHECKING:
    from steadygrad.monitor import Monitor
    from steadygrad.policies import Policy


class SteadygradCallback(TrainerCallback):
    """Guards (or watches) ``Trainer.train``, and records the true norms and the true loss.

    Args:
        mode: ``guard`` acts; ``watch`` records and reports, and never changes a number.
        policy: what to do with finite gradients; None is `steadygrad.policies.auto`. ``max_grad_norm``
            still acts, after the norms have been measured.
        run: path of the run file; None records nothing. Each rank has its own.
        max_consecutive_skips: skipped steps in a row after which the training is stopped.

    Attributes:
        guard: the monitor of the training that runs, or of the last one; None before.

    Raises:
        UsageError: an argument is out of range; or, when the training begins, DeepSpeed makes it.

    Example:
        >>> from transformers import Trainer                                           # doctest: +SKIP
        >>> from steadygrad.integrations.transformers import SteadygradCallback        # doctest: +SKIP
        >>> trainer = Trainer(model, arguments, train_dataset=data,
        ...                   callbacks=[SteadygradCallback(run="first.steady")])      # doctest: +SKIP
    """

    def __init__(
        self,
        mode: Mode = "guard",
        *,
        policy: Policy | None = None,
        run: str | os.PathLike[str] | None = None,
        max_consecutive_skips: int | None = 10,
    ) -> None:
        self.guard: Monitor | None = None
        self._wish = Wish(type(self).__name__, mode, policy, run, max_consecutive_skips)
        self._clips: Clips | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Model and optimizer are built and prepared: attach."""
        trainer = _trainer(sys._getframe())  # noqa: SLF001 - callbacks aren't handed the trainer
        self.guard, self._clips = attach_clipping(
            trainer.accelerator, kwargs["model"], kwargs["optimizer"], self._wish
        )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The training has ended."""
        if self._clips is not None and self.guard is not None:
            self._clips.give_back()
            self.guard.close()


def _trainer(frame: FrameType | None) -> Trainer:
    """The trainer that is calling."""
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Trainer):
            return caller
        frame = frame.f_back
    raise RuntimeError("on_train_begin() was called by something else than a transformers.Trainer")
