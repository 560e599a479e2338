"""What Accelerate clips is measured before, and the loss it is handed is logged.

The optimizer's hooks alone see gradients after ``accelerator.clip_grad_norm_``; so the clip of this one
accelerator is asked to wait until they have been measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from steadygrad.integrations.borrowed import Borrowed
from steadygrad.integrations.bounds import Handed, norm_bound
from steadygrad.integrations.losses import StepLoss
from steadygrad.integrations.overflows import tell_overflows

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from steadygrad.monitor import Monitor


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
        self._optimizers = [(optimizer, Handed(optimizer)) for optimizer in optimizers]
        self._measured: set[int] = set()
        self._loss = StepLoss()
        self._borrowed = Borrowed()
        self._borrowed.wrap(accelerator, "backward", self._backward)
        self._borrowed.wrap(accelerator, "clip_grad_norm_", self._norm_clip)
        self._borrowed.wrap(accelerator, "clip_grad_value_", self._value_clip)
        tell_overflows(self._borrowed, getattr(accelerator, "scaler", None), monitor)

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

    def _norm_clip(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def clip_grad_norm_(parameters: Any, max_norm: Any, norm_type: Any = 2) -> Any:
            given = self._measure(parameters, norm_bound(max_norm, norm_type))
            return original(given, max_norm, norm_type=norm_type)

        return clip_grad_norm_

    def _value_clip(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def clip_grad_value_(parameters: Any, clip_value: Any) -> Any:
            return original(self._measure(parameters), clip_value)

        return clip_grad_value_

    def _measure(self, parameters: Any, bound: float | None = None) -> list[Tensor]:
        """Measure the optimizers whose gradients are about to be clipped, once after each backward pass.

        Args:
            parameters: what the clip was given.
            bound: total norm after the clip, at most; None where it says nothing of it.

        Returns:
            What to hand to the clip: a generator can be walked through once.
        """
        given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        if not self._steps_next:
            return given
        self._accelerator.unscale_gradients()
        for optimizer, handed in self._optimizers:
            if id(optimizer) not in self._measured and handed.has_some(given):
                self._measured.add(id(optimizer))
                self._monitor.clip_(optimizer, max_norm=bound if handed.is_whole(given) else None)
        return given
