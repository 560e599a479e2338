"""Steps that a trainer's ``GradScaler`` leaves out by itself, told at once and not only when the next one is measured.

In between a moving average of the weights follows, with the running statistics that the batch has ruined.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from steadygrad.errors import UsageError
from steadygrad.integrations.borrowed import Borrowed

if TYPE_CHECKING:
    from steadygrad.monitor import Monitor


def tell_overflows(borrowed: Borrowed, scaler: Any, monitor: Monitor) -> None:
    """Have a monitor hear of each ``scaler.step`` in which the optimizer wasn't asked to step; without a scaler none is.

    Args:
        borrowed: puts the scaler's own method back.
        scaler: the trainer's ``GradScaler``, or None.
        monitor: is told.
    """
    if scaler is None:
        return

    def stepping(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            if not hasattr(optimizer, "register_step_pre_hook"):
                return original(optimizer, *args, **kwargs)
            asked: list[bool] = []
            handle = optimizer.register_step_pre_hook(lambda *_: asked.append(True))
            try:
                result = original(optimizer, *args, **kwargs)
            finally:
                handle.remove()
            # A trainer may step an optimizer that nobody watches, such as one for the parameters of its loss.
            with suppress(UsageError):
                monitor.left_out(optimizer, surely=not asked)
            return result

        return step

    borrowed.wrap(scaler, "step", stepping)
