"""Lightning: a callback, in the list of callbacks.

It works in automatic and manual optimization, with several optimizers, gradient accumulation, mixed
precision and closures; what the guard has learnt goes into Lightning's checkpoints and comes back.

To guard a script without touching it, set ``STEADYGRAD=guard`` (or ``watch``) in the environment: every
``Trainer`` then gets this callback through Lightning's own entry point.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from steadygrad.attachment import attached_to
from steadygrad.framework import require
from steadygrad.integrations.attaching import Mode, Wish, deepspeed_refused
from steadygrad.integrations.borrowed import Borrowed
from steadygrad.integrations.bounds import norm_bound
from steadygrad.integrations.losses import StepLoss
from steadygrad.integrations.overflows import tell_overflows
from steadygrad.stepping import moves_while_evaluating

require("lightning", "2.0", extra="lightning")

from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: E402 - asked for just above

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from steadygrad.monitor import Monitor
    from steadygrad.policies import Policy


class SteadygradCallback(Callback):
    """Guards (or watches) every optimizer of a ``Trainer.fit``.

    Norms are measured where Lightning clips: unscaled, and before ``gradient_clip_val`` or the module's own
    ``self.clip_gradients(...)`` acts; the guard judges the step as that clip will leave it. Where a module
    clips by other means, they are measured after it.

    Args:
        mode: ``guard`` acts; ``watch`` records and reports, and never changes a number.
        policy: what to do with finite gradients; None is `steadygrad.policies.auto`.
        run: path of the run file; None records nothing. Each rank has its own.
        max_consecutive_skips: skipped steps in a row after which the training is stopped.

    Attributes:
        guard: the monitor of the training that runs, or of the last one; None before.

    Raises:
        UsageError: an argument is out of range; or, when the training begins, DeepSpeed makes it.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from steadygrad.integrations.lightning import SteadygradCallback
        >>> trainer = Trainer(callbacks=[SteadygradCallback(run="first.steady")], logger=False,
        ...                   enable_checkpointing=False, enable_model_summary=False)    # doctest: +SKIP
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
        self._loss = StepLoss()
        self._drives = False
        self._measured: set[int] = set()
        self._borrowed = Borrowed()
        self._saved: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Optimizers are built and restored: attach."""
        if "deepspeed" in type(trainer.strategy).__name__.lower():
            raise deepspeed_refused(self._wish.call)
        optimizers = trainer.optimizers
        present = attached_to(optimizers[0]) if optimizers else None
        self._drives = present is None and bool(optimizers)
        self.guard = self._wish.of_this_rank().attach(pl_module, optimizers) if self._drives else present
        if self._drives and self.guard is not None and self._saved:
            self.guard.load_state_dict(self._saved)
        if self._drives and self.guard is not None:
            plugin = trainer.precision_plugin
            self._borrowed.wrap(plugin, "clip_gradients", partial(self._clipping, trainer))
            tell_overflows(self._borrowed, getattr(plugin, "scaler", None), self.guard)
        self._saved = {}

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the loss; Lightning has divided it by the number of batches a step accumulates."""
        self._loss.add(loss)
        self._measured.clear()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Gradients are complete and unscaled; in automatic optimization Lightning calls its clip next."""
        if id(optimizer) not in self._measured:
            self._log_loss()
            if not pl_module.automatic_optimization:
                self._measure(trainer, optimizer, None)

    def _clipping(self, trainer: Trainer, original: Callable[..., Any]) -> Callable[..., Any]:
        """Lightning's clip, which it calls with 0 where nothing is to be clipped, and modules may call themselves."""

        def clip_gradients(
            optimizer: Any, clip_val: float = 0.0, gradient_clip_algorithm: Any = "norm", **kwargs: Any
        ) -> None:
            automatic = trainer.lightning_module.automatic_optimization
            # What a module clips by hand under a scaler is still scaled.
            if automatic or getattr(trainer.precision_plugin, "scaler", None) is None:
                if not automatic:
                    self._log_loss()
                bound = norm_bound(clip_val) if gradient_clip_algorithm in {None, "norm"} else None
                self._measure(trainer, getattr(optimizer, "optimizer", optimizer), bound)
            original(optimizer, clip_val, gradient_clip_algorithm, **kwargs)

        return clip_gradients

    def _log_loss(self) -> None:
        loss = self._loss.take()
        if loss is not None and self._drives and self.guard is not None:
            self.guard.log(loss=loss)

    def _measure(self, trainer: Trainer, optimizer: Optimizer, bound: float | None) -> None:
        """Measure, once after each backward pass, what is about to be clipped to ``bound``."""
        known = any(optimizer is one for one in trainer.optimizers) and id(optimizer) not in self._measured
        if not known or not self._drives or self.guard is None or self.guard.closed:
            return
        # A line search asks for gradients again and again within one step, and a fused optimizer unscales
        # them itself: there the hooks of the step measure.
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        unscales_itself = scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False)
        if not unscales_itself and not moves_while_evaluating(optimizer):
            self._measured.add(id(optimizer))
            self.guard.clip_(optimizer, max_norm=bound)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The training has ended, well or not."""
        self._borrowed.give_back()
        if self._drives and self.guard is not None:
            self.guard.close()

    def state_dict(self) -> dict[str, Any]:
        """What the guard has learnt, for Lightning's checkpoint."""
        return self.guard.state_dict() if self._drives and self.guard is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it until there is a guard."""
        self._saved = dict(state_dict)


class FromEnvironment(SteadygradCallback):
    """The same where it was the environment that asked for it; makes way for any other guard."""
