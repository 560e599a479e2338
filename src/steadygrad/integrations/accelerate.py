"""Accelerate: one call after ``prepare``.

The optimizer's hooks alone see gradients after ``accelerator.clip_grad_norm_``; so the clip of this one
accelerator is asked to wait until they have been measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from steadygrad.attachment import attached_to
from steadygrad.errors import UsageError
from steadygrad.framework import require
from steadygrad.integrations.attaching import Mode, Wish
from steadygrad.integrations.borrowed import Borrowed
from steadygrad.integrations.losses import StepLoss
from steadygrad.usage import as_optimizers

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from steadygrad.monitor import Monitor
    from steadygrad.policies import Policy


class Clips:
    """Measures before an accelerator clips, and logs the loss it is handed.

    Args:
        accelerator: its ``backward``, ``clip_grad_norm_`` and ``clip_grad_value_`` are wrapped, on this
            object only.
        monitor: measures.
        optimizers: what the monitor is attached to.
    """

    def __init__(self, accelerator: Any, monitor: Monitor, optimizers: Sequence[Optimizer]) -> None:
        self._accelerator = accelerator
        self._monitor = monitor
        self._optimizers = optimizers
        self._measured: set[int] = set()
        self._loss = StepLoss()
        self._borrowed = Borrowed()
        self._borrowed.wrap(accelerator, "backward", self._backward)
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            self._borrowed.wrap(accelerator, name, self._clip)

    def give_back(self) -> None:
        """Put the accelerator's own methods back."""
        self._borrowed.give_back()

    @property
    def _steps_next(self) -> bool:
        """Whether a step follows; it doesn't on the micro-batches in between."""
        return bool(self._accelerator.sync_gradients) and not self._monitor.closed

    def _backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def backward(loss: Any, **kwargs: Any) -> Any:
            self._measured.clear()
            # Accelerate divides like this, too: the micro-batches of a step add up to their mean.
            self._loss.add(loss / self._accelerator.gradient_accumulation_steps)
            if self._steps_next:
                self._monitor.log(loss=self._loss.take())
            return original(loss, **kwargs)

        return backward

    def _clip(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            # A generator can be walked through once.
            given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
            if self._steps_next:
                self._accelerator.unscale_gradients()
                self._measure({id(param) for param in given})
            return original(given, *args, **kwargs)

        return clip

    def _measure(self, ids: set[int]) -> None:
        """Measure the optimizers whose gradients are about to be clipped, once after each backward pass."""
        for optimizer in self._optimizers:
            held = {id(param) for group in optimizer.param_groups for param in group["params"]}
            if held & ids and id(optimizer) not in self._measured:
                self._measured.add(id(optimizer))
                self._monitor.clip_(optimizer)


def attach(
    accelerator: Any,
    model: nn.Module,
    optimizer: Any,
    *,
    mode: Mode = "guard",
    policy: Policy | None = None,
    run: str | os.PathLike[str] | None = None,
    max_consecutive_skips: int | None = 10,
) -> Monitor:
    """Guard a training that Accelerate has prepared.

    Args:
        accelerator: the ``Accelerator``.
        model: what ``prepare`` returned.
        optimizer: what ``prepare`` returned, or a list of them.
        mode: ``guard`` acts; ``watch`` records and reports, and never changes a number.
        policy: what to do with finite gradients; None is `steadygrad.policies.auto`.
        run: path of the run file; None records nothing. Each rank has its own.
        max_consecutive_skips: skipped steps in a row after which the training is stopped.

    Returns:
        The monitor; the one that is there already, if there is one.

    Raises:
        FrameworkMissing: Accelerate is absent or too old.
        UsageError: DeepSpeed trains, whose optimizer calls no hooks; or a call that can't work.

    Example:
        >>> from accelerate import Accelerator                                 # doctest: +SKIP
        >>> from steadygrad.integrations import accelerate                     # doctest: +SKIP
        >>> accelerator = Accelerator()                                        # doctest: +SKIP
        >>> model, optimizer, loader = accelerator.prepare(model, optimizer, loader)    # doctest: +SKIP
        >>> guard = accelerate.attach(accelerator, model, optimizer)           # doctest: +SKIP
    """
    require("accelerate", "1.0", extra="accelerate")
    wish = Wish("accelerate.attach", mode, policy, run, max_consecutive_skips)
    if str(getattr(accelerator, "distributed_type", "")).endswith("DEEPSPEED"):
        raise UsageError(
            "accelerate.attach(): DeepSpeed keeps gradients and optimizer in an engine of its own that calls no hooks, "
            "so nothing can be guarded here. What still works: gradient_clipping in its configuration, and "
            "steadygrad.check(model, batch, loss_fn) before the training."
        )
    return attach_clipping(accelerator, accelerator.unwrap_model(model), optimizer, wish)[0]


def attach_clipping(
    accelerator: Any, model: nn.Module, optimizer: Any, wish: Wish
) -> tuple[Monitor, Clips | None]:
    """Attach, and have clips wait for the measurement; None where somebody else's monitor is there."""
    optimizers = as_optimizers(wish.call, optimizer)
    present = [attached_to(one) for one in optimizers]
    monitor = wish.of_this_rank().attach(model, optimizers)
    return monitor, None if monitor in present else Clips(accelerator, monitor, optimizers)
