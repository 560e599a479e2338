"""Numbers the user logs: the loss and whatever else, never waited for on an accelerator."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from steadygrad.errors import UsageError
from steadygrad.measure import LateReads


class Scalars:
    """Takes named numbers and hands them on as floats with the step they belong to.

    People log before the step or after it. The first call tells which: before any step has been
    made, the numbers belong to the step that comes; later, to the one just made.

    Args:
        emit: receives step, name and value, at once or, from an accelerator, a step later.
    """

    def __init__(self, emit: Callable[[int, str, float], None]) -> None:
        self._emit = emit
        self._reads: LateReads[tuple[int, tuple[str, ...]]] = LateReads()
        self._before_step: bool | None = None

    def log(self, steps_done: int, values: Mapping[str, object]) -> float | None:
        """Take the numbers of one call.

        Args:
            steps_done: optimizer steps made so far.
            values: floats or one-element tensors by name.

        Returns:
            The loss, where it was logged before its step and needs no waiting for.

        Raises:
            UsageError: a value is not a number.
        """
        if self._before_step is None:
            self._before_step = steps_done == 0
        step = steps_done if self._before_step else max(0, steps_done - 1)
        here = {name: _as_float(name, value) for name, value in values.items() if not _is_late(value)}
        for name, value in here.items():
            self._emit(step, name, value)
        late = {
            name: value for name, value in values.items() if isinstance(value, Tensor) and _is_late(value)
        }
        if late:
            packet = torch.stack([_single(name, value).reshape(()) for name, value in late.items()])
            self._reads.send(packet, (step, tuple(late)))
        return here.get("loss") if self._before_step else None

    def deliver(self) -> None:
        """Hand on what has arrived from the device."""
        while (arrived := self._reads.take()) is not None:
            (step, names), numbers = arrived
            for name, value in zip(names, numbers.tolist(), strict=True):
                self._emit(step, name, value)


def _is_late(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type != "cpu"


def _single(name: str, value: Tensor) -> Tensor:
    if value.numel() != 1:
        raise UsageError(
            f"log({name}=...): expected a number or a one-element tensor, got shape {tuple(value.shape)}. Reduce it "
            "first, for example with .mean()."
        )
    return value.detach().to(torch.float32)


def _as_float(name: str, value: object) -> float:
    if isinstance(value, Tensor):
        return float(_single(name, value))
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError(
            f"log({name}={value!r}): expected a number or a one-element tensor, got {type(value).__name__}."
        ) from None
