"""The loss behind a step that may be made of several backward passes."""

from __future__ import annotations

from torch import Tensor


class StepLoss:
    """Adds up losses until their step takes the sum; nothing is read from the device."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._open = False

    def add(self, loss: object) -> None:
        """A backward pass starts from this loss; what is no single number is no loss."""
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            return
        value = loss.detach().reshape(())
        self._sum = self._sum + value if self._open and self._sum is not None else value
        self._open = True

    def take(self) -> Tensor | None:
        """The sum, for a step; the next loss begins a new one. Two steps on one loss both get it."""
        self._open = False
        return self._sum
