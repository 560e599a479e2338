"""Numbers the user logs: the loss and whatever else, never waited for on an accelerator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableSequence, Sequence
from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor

from steadygrad.errors import UsageError
from steadygrad.measure import LateReads
from steadygrad.records import FloatArray, Reading

_Packet = tuple[tuple[int, ...], tuple[tuple[int, str], ...]]
"""Steps made by then, and step and name of each number."""
_PILE = 8
"""Packets under way that a loop which makes its steps doesn't have: there each step asks for them."""
_LOOK_BACK = 16
"""Readings in which the step of a number that has just come can be: a few optimizers, a few steps."""


class Scalars:
    """Takes named numbers and hands them on as floats with the step they belong to.

    People log before the step or after it. The first call with a name tells which: before any step
    has been made, its numbers belong to the step that comes; later, to the one just made. Of several
    optimizers those are counted that step the most; one that hasn't made its step of this round
    counts where numbers come before the step.

    Args:
        emit: receives step, name and value, at once or, from an accelerator, a step later.
        on_loss: receives each loss after that, with the steps that each optimizer had made when it was logged.

    Attributes:
        loss_to: receive each loss at once, a tensor where it mustn't be waited for, and whether it came after its step.
    """

    def __init__(
        self,
        emit: Callable[[int, str, float], None],
        on_loss: Callable[[tuple[int, ...], float], None] = lambda _made, _value: None,
    ) -> None:
        self._emit = emit
        self._on_loss = on_loss
        self.reads: LateReads[_Packet] = LateReads()
        self._before_step: dict[str, bool] = {}
        self._made_earlier = 0
        self.loss_to: list[Callable[[float | Tensor, bool], None]] = []

    def resume(self, steps_made: int) -> None:
        """Take note that so many steps were made in an earlier process."""
        self._made_earlier = steps_made

    def log(self, steps_made: Sequence[int], values: Mapping[str, object]) -> float | None:
        """Take the numbers of one call.

        Args:
            steps_made: steps made so far, for each optimizer.
            values: floats or one-element tensors by name.

        Returns:
            The loss, where it was logged before its step and needs no waiting for.

        Raises:
            UsageError: a value is not a number.
        """
        late: dict[str, Tensor] = {}
        here: dict[str, float] = {}
        for name, value in values.items():
            if _is_late(value):
                late[name] = _single(name, value)
            else:
                here[name] = _as_float(name, value)
        steps = {name: self._step(name, steps_made) for name in values}
        for name, number in here.items():
            self._emit(steps[name], name, number)
        made = tuple(steps_made)
        if "loss" in here:
            self._on_loss(made, here["loss"])
        if late:
            self._unload()
            packet = torch.stack([value.reshape(()) for value in late.values()])
            self.reads.send(packet, (made, tuple((steps[name], name) for name in late)))
        if "loss" in values:
            loss = late["loss"] if "loss" in late else here["loss"]
            for receive in self.loss_to:
                receive(loss, not self._before_step["loss"])
        return here.get("loss") if self._before_step.get("loss") else None

    def _step(self, name: str, steps_made: Sequence[int]) -> int:
        newest = max(steps_made)
        if self._before_step.setdefault(name, newest <= self._made_earlier):
            return min(made for made in steps_made if made >= newest - 1)
        return max(0, newest - 1)

    def deliver(self) -> None:
        """Hand on what has arrived from the device; no call is needed while nothing is ``reads.waiting``."""
        while (arrived := self.reads.take()) is not None:
            self._hand_on(*arrived)

    def _unload(self) -> None:
        """Hand on what has landed while no step comes to ask for it."""
        while len(self.reads.waiting) > _PILE and self.reads.has_landed:
            arrived = self.reads.take()
            if arrived is not None:
                self._hand_on(*arrived)

    def _hand_on(self, packet: _Packet, numbers: FloatArray) -> None:
        made, places = packet
        for (step, name), value in zip(places, numbers.tolist(), strict=True):
            self._emit(step, name, value)
            if name == "loss":
                self._on_loss(made, value)


def give_loss(readings: MutableSequence[Reading], step: int, loss: float) -> Reading | None:
    """Put a loss that came after its step into the Readings of that step that have none.

    Args:
        readings: the newest last; only these few are looked at.
        step: the step it belongs to.
        loss: the loss.

    Returns:
        That of the first optimizer, with the loss; None where it has none to give it to.
    """
    first = None
    for i in range(len(readings) - 1, max(-1, len(readings) - 1 - _LOOK_BACK), -1):
        if readings[i].step == step and readings[i].loss is None:
            readings[i] = given = replace(readings[i], loss=loss)
            first = first if given.optimizer else given
    return first


def _is_late(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.device.type != "cpu"


def _single(name: str, value: Tensor) -> Tensor:
    if value.numel() != 1:
        raise UsageError(
            f"log({name}=...): expected a number or a one-element tensor, got shape {tuple(value.shape)}. Reduce it "
            "first, for example with .mean()."
        )
    if value.is_complex():
        raise UsageError(
            f"log({name}=...): expected a real number, got a {value.dtype} tensor. Log its abs()."
        )
    return value.detach().to(torch.float32)


def _as_float(name: str, value: object) -> float:
    if type(value) is Tensor and not value.dim() and value.is_floating_point():
        return value.item()  # nearly always
    if isinstance(value, Tensor):
        return float(_single(name, value))
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError(
            f"log({name}={value!r}): expected a number or a one-element tensor, got {type(value).__name__}."
        ) from None
    except OverflowError:
        raise UsageError(
            f"log({name}=...): expected a number that fits a float, got a larger {type(value).__name__}. Log its "
            "logarithm."
        ) from None
