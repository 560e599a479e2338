"""Gradients of a step that was left out: they stand as they came, and no later backward pass adds to them.

A second optimizer on the same parameters must still see what is in them, and so must whoever looks. But a loop that leaves
it to the step, or to a hook on it, to clear its gradients has had nothing cleared: there the next backward pass would add
to them, and every step after it be as poisoned. So they are zeroed when that backward pass brings the first new one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import RLock
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle, unserializable_hook
from torch.utils.weak import TensorWeakRef

from steadygrad.capture import is_capturing
from steadygrad.measure import is_sharded


class _Standing(NamedTuple):
    """One gradient; held weakly, because whoever clears gradients wants their memory back."""

    param: TensorWeakRef
    grad: TensorWeakRef
    version: int


class LeftStanding:
    """Gradients of one optimizer that the next backward pass is not to add to.

    All are zeroed at the first that is to be added to: another one may get nothing in that pass, and those of one bucket
    (DDP) count their changes together. Asking for gradients (`torch.autograd.grad`) zeroes them too: a hook is told no
    difference. One that has been changed or replaced since is as somebody wants it.
    """

    def __init__(self) -> None:
        self._standing: list[_Standing] = []
        self._handles: list[RemovableHandle] = []
        # Backward passes over several devices run in a thread for each: no other may add while one zeroes.
        self._lock = RLock()
        self._is_closed = False

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._standing)

    def leave(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Leave these gradients standing; where no hook can tell of the next backward pass they are zeroed at once.

        Args:
            pairs: parameters, and what is in their ``.grad``.
        """
        self.forget()
        at_once = []
        for param, grad in pairs:
            if self._is_closed or not self._is_hung_on(param):
                at_once.append((param, grad))
            else:
                self._standing.append(_Standing(TensorWeakRef(param), TensorWeakRef(grad), version_of(grad)))
        with torch.no_grad():
            for param, grad in at_once:
                _clear(param, grad)

    def forget(self) -> None:
        """Take the hooks off; what stands stays as it is."""
        if not self._handles:
            return
        with self._lock:
            self._standing, handles, self._handles = [], self._handles, []
            for handle in handles:
                handle.remove()

    def close(self) -> None:
        """Take the hooks off for good."""
        self._is_closed = True
        self.forget()

    def begin_anew(self) -> None:
        """A new gradient is there and about to be added: zero those that stand. Nothing here may fail, it's the user's pass."""
        # The hooks go last: other threads must come here, and wait, until all is zero.
        with self._lock, torch.no_grad(), suppress(Exception):
            found = [(param, grad) for one in self._standing if (param := one.param()) is not None
                     and (grad := one.grad()) is not None
                     and param.grad is grad and version_of(grad) == one.version]  # fmt: skip
            for param, grad in found:
                _clear(param, grad)
        self.forget()

    def _is_hung_on(self, param: Tensor) -> bool:
        if is_sharded(param) or not (param.requires_grad and param.is_leaf):
            return False
        with suppress(RuntimeError):  # one of a kind that takes no hooks
            self._handles.append(param.register_hook(_hook_of(self)))  # type: ignore[no-untyped-call]
            return True
        return False


def emptied(grad: Tensor) -> Tensor:
    """This gradient, zeroed: in place, because buckets of DDP and flat buffers hold it.

    One that belongs to a graph is replaced: whoever goes through the graph still needs its values. So is one of inference
    mode: torch refuses to write into it, after it has.
    """
    if not (grad.requires_grad or grad.is_inference()):
        with suppress(RuntimeError):  # one of a kind that can't be written
            return grad.zero_()
    return torch.zeros_like(grad, requires_grad=False)


def version_of(tensor: Tensor) -> int:
    """How often it has been changed, as far as torch counts that; -1 in inference mode."""
    return -1 if tensor.is_inference() else tensor._version  # noqa: SLF001 - what torch itself counts changes by


def _clear(param: Tensor, grad: Tensor) -> None:
    zeros = emptied(grad)
    if zeros is not grad:
        param.grad = zeros


def _hook_of(standing: LeftStanding) -> Callable[[Tensor], None]:
    known = weakref.ref(standing)

    def begins_anew(_: Tensor) -> None:
        one = known()
        if one is not None and not is_capturing():
            one.begin_anew()

    hook: Callable[[Tensor], None] = unserializable_hook(begins_anew)  # type: ignore[no-untyped-call]
    return hook
