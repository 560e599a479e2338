"""Numbers on their way from an accelerator to the host, one step late and without a stop.

The host asks for a copy into page-locked memory and goes on; when it comes back at the next step the
copy has long arrived, because a whole forward and backward pass lay in between.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import torch
from torch import Tensor

from steadygrad.records import FloatArray

T = TypeVar("T")

# What is still under way when nobody takes it: scalars logged between two steps.
_MAX_WAITING = 64


class LateReads(Generic[T]):
    """A queue of packets under way to the host, each with a note of what it is.

    On a CPU the same code copies at once: that is how the accelerator's path is tested.

    Attributes:
        waiting: what is under way, oldest first: empty, as it always is in host memory, there is nothing to take.
    """

    def __init__(self) -> None:
        self.waiting: deque[tuple[T, Tensor, torch.Event | None]] = deque(maxlen=_MAX_WAITING)

    def send(self, packet: Tensor, note: T) -> None:
        """Start copying ``packet`` (1-d) to the host."""
        on_device = packet.device.type != "cpu"
        # Page-locked memory is cached by torch: after the first steps this allocates nothing.
        buffer = torch.empty(packet.shape, dtype=packet.dtype, pin_memory=on_device)
        buffer.copy_(packet, non_blocking=True)
        event = None
        if on_device:
            event = torch.Event(packet.device)
            event.record()
        self.waiting.append((note, buffer, event))

    @property
    def has_landed(self) -> bool:
        """Whether the oldest packet can be taken without waiting for the device."""
        if not self.waiting:
            return False
        event = self.waiting[0][2]
        return event is None or event.query()

    def take(self) -> tuple[T, FloatArray] | None:
        """The oldest packet and its note, or None when nothing is under way."""
        if not self.waiting:
            return None
        note, buffer, event = self.waiting.popleft()
        if event is not None:
            event.synchronize()
        numbers: FloatArray = buffer.numpy()
        return note, numbers
