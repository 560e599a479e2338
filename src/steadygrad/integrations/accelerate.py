"""Accelerate: one call after ``prepare``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from steadygrad.attachment import attached_to
from steadygrad.framework import require
from steadygrad.integrations.accelerate_clips import Clips
from steadygrad.integrations.attaching import Mode, Wish, deepspeed_refused
from steadygrad.usage import as_optimizers

if TYPE_CHECKING:
    from torch import nn

    from steadygrad.monitor import Monitor
    from steadygrad.policies import Policy


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
    return attach_clipping(accelerator, accelerator.unwrap_model(model), optimizer, wish)[0]


def attach_clipping(
    accelerator: Any, model: nn.Module, optimizer: Any, wish: Wish
) -> tuple[Monitor, Clips | None]:
    """Attach, and have clips wait for the measurement; None where somebody else's monitor is there."""
    if str(getattr(accelerator, "distributed_type", "")).endswith("DEEPSPEED"):
        raise deepspeed_refused(wish.call)
    optimizers = as_optimizers(wish.call, optimizer)
    present = [attached_to(one) for one in optimizers]
    monitor = wish.of_this_rank().attach(model, optimizers)
    return monitor, None if monitor in present else Clips(accelerator, monitor, optimizers)
