"""Are gradients cleared in a loop by hand? Asked of one parameter, in its first backward passes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from steadygrad.stepping.zero_grad import EVIDENCE_STEPS, GIVE_UP_STEPS


class Kept:
    """Looks at what stands in ``.grad`` when a new gradient comes.

    A loop that gathers the gradients of several passes has them there too, but its parameters stay where they are in
    between. Whoever clears gradients after the update has none there, or zeros.

    Args:
        params: the parameters in training; the smallest is asked.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        own = [one for one in params if one.requires_grad and one.is_leaf]
        self._param = min(own, key=lambda one: one.numel(), default=None)
        self._handle = None if self._param is None else self._param.register_hook(self._comes)  # type: ignore[no-untyped-call]
        self._last: Tensor | None = None
        self._passes = self._kept = 0

    @property
    def proved(self) -> bool:
        """Whether gradients are never cleared."""
        return self._kept >= EVIDENCE_STEPS

    def close(self) -> None:
        """Take the hook off."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = None

    def _comes(self, grad: Tensor) -> None:
        # This runs inside the user's backward pass: nothing that could fail may happen here.
        del grad
        param = self._param
        if param is None:
            return
        last, self._last = self._last, param.detach().clone()
        self._passes += 1
        if last is None or last.shape != param.shape or not bool((last != param.detach()).any()):
            return
        there = param.grad
        self._kept = self._kept + 1 if there is not None and bool((there != 0).any()) else 0
        if self._kept in {0, EVIDENCE_STEPS} or self._passes >= GIVE_UP_STEPS:
            self.close()
