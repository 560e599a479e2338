"""The loss behind the next step, gathered from the backward passes that lead to it."""

from __future__ import annotations

import weakref

from torch import Tensor


def only_loss(roots: object) -> Tensor | None:
    """The loss that a backward pass starts from; None where it starts from several numbers."""
    root = roots[0] if isinstance(roots, (list, tuple)) and len(roots) == 1 else roots
    return root if isinstance(root, Tensor) and root.numel() == 1 and root.is_floating_point() else None


class Losses:
    """Adds up what backward passes started from since the last step.

    The gradients of several passes add up, so the loss they belong to is the sum. Under a
    ``GradScaler`` the loss is divided by the scale again. Everything stays on its device.

    Attributes:
        round: counts the steps that had a loss of their own; two optimizers that step after the
            same backward pass are in one round.
        value: the sum, 0-d; None before the first.
        open: whether a backward pass has been made since the last step.
    """

    def __init__(self) -> None:
        self.round = 0
        self.value: Tensor | None = None
        self.open = False
        self._scale: Tensor | None = None
        self._scaled: tuple[weakref.ref[Tensor], Tensor] | None = None

    def scaled_by(self, scale: Tensor, loss: Tensor, scaled: Tensor) -> None:
        """Take note that losses are being multiplied by ``scale``, 0-d, and of one such loss."""
        self._scale = scale
        # Where the product overflows, no division brings the loss back.
        self._scaled = (weakref.ref(scaled), loss.detach())

    def add(self, tensors: object, gradient: object = None) -> None:
        """Take what a backward pass starts from; what is no single number is no loss.

        Args:
            tensors: its roots.
            gradient: what the root's gradient is set to, where that isn't one: a critic's
                ``loss.backward(-one)`` goes uphill.
        """
        root = only_loss(tensors)
        if root is None:
            return
        loss = self._unscaled(root).reshape(())
        factor = gradient[0] if isinstance(gradient, (list, tuple)) and len(gradient) == 1 else gradient
        if isinstance(factor, Tensor) and factor.numel() == 1:
            loss = loss * factor.detach().reshape(()).to(loss.device)
        if self.open and self.value is not None and self.value.device == loss.device:
            loss = self.value + loss
        elif not self.open:
            self.round += 1
        self.open = True
        self.value = loss

    def _unscaled(self, root: Tensor) -> Tensor:
        if self._scaled is not None and self._scaled[0]() is root:
            return self._scaled[1]
        loss = root.detach()
        return loss if self._scale is None else loss / self._scale.to(loss.device)

    def end_round(self) -> None:
        """A step was made of them: the next loss begins a new sum."""
        self.open = False

    def rescaled(self) -> None:
        """The ``GradScaler`` has ended its step, also where it left the optimizer's out."""
        self.end_round()
        self._scale = self._scaled = None
