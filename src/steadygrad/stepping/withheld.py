"""Gradients that an optimizer isn't to see in one step, so that the step is left out whole.

torch's own optimizers pass over a parameter without a gradient: taking gradients away is enough, and costs nothing. Of a
step that somebody has written nobody knows that: it may add ``p.grad`` unasked, or decay, count and average whatever
has one. Such a step runs on gradients of zero, and all that it has done is put back after it (`Remembered`).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from steadygrad.stepping.remembered import Remembered
from steadygrad.stepping.undo import moves_while_evaluating

_CHECKED = ("torch.optim.", "torch.distributed.")
"""Modules whose steps are known to pass over parameters without a gradient."""

_NEVER = (-1,)


class _Taken(NamedTuple):
    """One gradient that is withheld.

    Attributes:
        param: whose it is.
        grad: the gradient.
        before: what was in it.
        stands: what the step finds instead: itself, now of zeros, or a zero in its place.
        version: of what stands there, after that.
    """

    param: Tensor
    grad: Tensor
    before: Tensor
    stands: Tensor
    version: int


class Withheld:
    """What is withheld from one optimizer for the length of one step.

    A step in two halves (sharpness-aware minimisation) moves the weights, has its closure called, and moves them back: of
    such a step what it does *after* the closure must not be undone alone. So a step that is handed a closure is undone only
    if no weight has changed before the closure's first evaluation has ended, as far as torch counts changes. Where one had,
    or nobody knows yet, steps are looked at as they begin: if the gradients that stand there are poisoned, the whole step is.

    Args:
        optimizer: held weakly.

    Attributes:
        undoes: whether its steps are undone, if that can be.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = weakref.ref(optimizer)
        module = getattr(type(optimizer).step, "__module__", None) or ""
        self.undoes = not module.startswith(_CHECKED) and not moves_while_evaluating(optimizer)
        self._away: list[tuple[Tensor, Tensor]] = []
        self._zeroed: list[_Taken] = []
        self._memory: Remembered | None = None
        self._leaves_out = False
        self._begun: tuple[int, ...] | None = None
        self._in_halves: bool | None = None

    def begins(self, closure: object) -> bool:
        """A step of one that `undoes` begins.

        Args:
            closure: makes its gradients; None where they are there already.

        Returns:
            Whether it is known to be poisoned: it will use gradients that are there and aren't finite, before it makes others.
        """
        self._begun, self._memory = None, None
        if closure is None:
            return False
        params = self._params()
        self._begun = _versions(params)
        if self._in_halves is False or all(map(_is_finite, _grads(params))):
            return False
        self._remember(())
        return self._memory is not None

    def evaluated(self, evaluation: int) -> None:
        """Its closure has been evaluated."""
        if self._begun is None:
            return
        moved = evaluation == 0 and self._begun != _versions(self._params())
        self._in_halves = self._in_halves or moved
        if evaluation or moved:
            self._begun = _NEVER

    def take(self, params: Iterable[Tensor]) -> None:
        """Withhold the gradients of these parameters: the step is left out."""
        self._leaves_out = True
        pairs = [(param, param.grad) for param in params if param.grad is not None]
        # A step that goes through the gradients' graph (AdaHessian) can't do so with others.
        has_graph = any(grad.requires_grad for _, grad in pairs)
        if self._memory is None and self.undoes and self._begun != _NEVER and not has_graph:
            self._remember(grad for _, grad in pairs)
        if self._memory is not None:
            with suppress(Exception):
                self._zeroed += _zeroed(pairs)
                return
        for param, _ in pairs:
            param.grad = None
        self._away += pairs

    def give_back(self, *, ended: bool) -> None:
        """Put back what was withheld; whatever is newer stays.

        Args:
            ended: the step has been left out. A later backward pass then adds to nothing, also in a loop that leaves it to
                the step to clear its gradients. Of a step that raised they come back as they were: what it did
                until then is the user's, who may have loaded other weights since.
        """
        memory, self._memory, self._begun = self._memory, None, None
        left_out, self._leaves_out = self._leaves_out and ended, False
        away, self._away = self._away, []
        zeroed, self._zeroed = self._zeroed, []
        with torch.no_grad():
            if all(param.grad is None for param, _ in away):
                for param, grad in away:
                    param.grad = emptied(grad) if ended else grad
            if ended:
                _empty_again(zeroed)
            else:
                _bring_back(zeroed)
        # One that was expected to be poisoned, and made other gradients, is a step like any other.
        if memory is not None and left_out:
            memory.put_back()

    def _remember(self, grads: Iterable[Tensor]) -> None:
        optimizer = self._optimizer()
        if optimizer is not None:
            # Whatever it is that can't be copied, or is out of memory: without gradients most steps do nothing.
            with suppress(Exception):
                self._memory = Remembered(optimizer, grads)

    def _params(self) -> list[Tensor]:
        optimizer = self._optimizer()
        groups = () if optimizer is None else optimizer.param_groups
        return [param for group in groups for param in group["params"]]


def emptied(grad: Tensor) -> Tensor:
    """This gradient, zeroed: in place, because buckets of DDP and flat buffers hold it.

    One that belongs to a graph is replaced: whoever goes through the graph still needs its values.
    """
    if not grad.requires_grad:
        with suppress(RuntimeError):  # one of inference mode
            return grad.zero_()
    return torch.zeros_like(grad, requires_grad=False)


@torch.no_grad()
def _zeroed(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[_Taken]:
    """Have zeros stand where these gradients were."""
    # Two parameters may share one.
    grads = {id(grad): grad for _, grad in pairs}
    before = {key: grad.detach().clone() for key, grad in grads.items()}
    stands = {key: emptied(grad) for key, grad in grads.items()}
    for param, grad in pairs:
        param.grad = stands[id(grad)]
    return [
        _Taken(param, grad, before[id(grad)], stands[id(grad)], _version(stands[id(grad)]))
        for param, grad in pairs
    ]


def _empty_again(zeroed: Iterable[_Taken]) -> None:
    # A step may write into a gradient; one that it has cleared or replaced is as it wants it.
    for one in zeroed:
        if one.param.grad is one.stands:
            one.param.grad = emptied(one.stands)


def _bring_back(zeroed: Iterable[_Taken]) -> None:
    # All are looked at before the first is written: two parameters may share one.
    untouched = [
        one for one in zeroed if one.param.grad is one.stands and _version(one.stands) == one.version
    ]
    for one in untouched:
        if one.stands is one.grad:
            one.grad.copy_(one.before)
        else:
            one.param.grad = one.grad


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version  # noqa: SLF001 - what torch itself counts changes by


def _versions(params: Sequence[Tensor]) -> tuple[int, ...]:
    try:  # without a call for each, since this is done at every step that is handed a closure
        return tuple([one._version for one in params])  # noqa: SLF001 - as above
    except RuntimeError:  # some are of inference mode
        return tuple(map(_version, params))


def _grads(params: Iterable[Tensor]) -> Iterable[Tensor]:
    return (param.grad for param in params if param.grad is not None)


def _is_finite(grad: Tensor) -> bool:
    # On an accelerator the host must not wait: there such a step is left to recovery.
    return grad.device.type != "cpu" or bool(torch.isfinite(grad.detach()).all())
