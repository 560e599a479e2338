"""Gradients that an optimizer isn't to see in one step, so that the step is left out whole.

torch's own optimizers pass over a parameter without a gradient: taking gradients away is enough, and costs nothing. Of a
step that somebody has written nobody knows that: it may add ``p.grad`` unasked, or decay, count and average whatever
has one. Such a step runs on gradients of zero, and all that it has done is put back after it (`Remembered`).

Over several ranks gradients are always taken away: whether a step can be undone (memory, what it holds) each rank would find
out for itself, and a step with a collective for each gradient waits for ever where one rank has gradients and another none.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from steadygrad.measure import HostNorms, Measurer, is_sharded
from steadygrad.stepping.left_standing import LeftStanding, emptied, version_of
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
    if no weight has changed before the closure's first evaluation, as far as torch counts changes. Where one had,
    or nobody knows yet, steps are looked at as they begin: if the gradients that stand there are poisoned, the whole step is.

    Args:
        optimizer: held weakly.
        measurer: what measures its gradients: together with other ranks, or alone.

    Attributes:
        standing: gradients of the step that was left out last.
    """

    def __init__(self, optimizer: Optimizer, measurer: Measurer | None = None) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._measurer = measurer
        module = getattr(type(optimizer).step, "__module__", None) or ""
        self._is_own = not module.startswith(_CHECKED) and not moves_while_evaluating(optimizer)
        self.standing = LeftStanding()
        self._away: list[tuple[Tensor, Tensor]] = []
        self._zeroed: list[_Taken] = []
        self._memory: Remembered | None = None
        self._leaves_out = False
        self._begun: tuple[int, ...] | None = None
        self._in_halves: bool | None = None
        self._are_finite = _Finiteness()

    @property
    def undoes(self) -> bool:
        """Whether its steps are undone, if that can be."""
        return self._is_own and (self._measurer is None or self._measurer.together is None)

    def begins(self, closure: object) -> bool:
        """A step of one that `undoes` begins.

        Args:
            closure: makes its gradients; None where they are there already.

        Returns:
            Whether it is known to be poisoned: it will use gradients that are there and aren't finite, before it makes others.
        """
        self._begun, self._memory = None, None
        if closure is None or not self.undoes:
            return False
        params = self._params()
        self._begun = _versions(params)
        if self._in_halves is False or self._are_finite(_grads(params)):
            return False
        self._remember(())
        return self._memory is not None

    def evaluates(self, evaluation: int) -> None:
        """Its closure is about to be evaluated; what that does to the weights (clamping) is the user's, and stays."""
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
        if self._memory is None and self._begun != _NEVER and not has_graph and self.undoes:
            self._remember(grad for _, grad in pairs)
        if self._memory is not None:
            with suppress(Exception):
                self._zeroed += _zeroed(pairs)
                return
        for param, _ in pairs:
            param.grad = None
        self._away += pairs

    def give_back(self, *, ended: bool) -> None:
        """Put back what was withheld, as it came; whatever is newer stays.

        Args:
            ended: the step has been left out. A later backward pass then adds to nothing, also in a loop that leaves it to
                the step to clear its gradients (`LeftStanding`). Of a step that raised, what it did until then is the
                user's, who may have loaded other weights since.
        """
        memory, self._memory, self._begun = self._memory, None, None
        left_out, self._leaves_out = self._leaves_out and ended, False
        away, self._away = self._away, []
        zeroed, self._zeroed = self._zeroed, []
        if ended:
            self.standing.forget()
        back = _handed_back(away) if away else []
        back += _brought_back(zeroed, ended=ended) if zeroed else []
        # One that was expected to be poisoned, and made other gradients, is a step like any other.
        if memory is not None and left_out:
            memory.put_back()
        if left_out:
            self.standing.leave(back)

    def close(self) -> None:
        """Take hooks off the parameters, for good."""
        self.standing.close()

    def _remember(self, grads: Iterable[Tensor]) -> None:
        optimizer = self._optimizer()
        # Those that are cut over ranks are measured apart from them, where some are missing.
        if optimizer is not None and not any(map(is_sharded, self._params())):
            # Whatever it is that can't be copied, or is out of memory: without gradients most steps do nothing.
            with suppress(Exception):
                self._memory = Remembered(optimizer, grads)

    def _params(self) -> list[Tensor]:
        optimizer = self._optimizer()
        groups = () if optimizer is None else optimizer.param_groups
        return [param for group in groups for param in group["params"]]


class _Finiteness:
    """Whether gradients are finite, by one norm of all; on the host, since an accelerator must not be waited for."""

    def __init__(self) -> None:
        self._numels: list[int] = []
        self._norms: HostNorms | None = None

    def __call__(self, grads: Iterable[Tensor]) -> bool:
        # On an accelerator such a step is left to recovery.
        on_host = [grad.detach() for grad in grads if grad.device.type == "cpu"]
        numels = [grad.numel() for grad in on_host]
        with suppress(Exception):  # a kind of tensor that has no norm
            if self._norms is None or numels != self._numels:
                self._numels, self._norms = numels, HostNorms(on_host)
            if math.isfinite(self._norms(on_host)[1]):
                return True
        # A norm that overflows says nothing of the numbers.
        return all(bool(torch.isfinite(grad).all()) for grad in on_host)


@torch.no_grad()
def _zeroed(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[_Taken]:
    """Have zeros stand where these gradients were; all of them, or none if that fails."""
    # Two parameters may share one.
    grads = {id(grad): grad for _, grad in pairs}
    before = {key: grad.detach().clone() for key, grad in grads.items()}
    stands: dict[int, Tensor] = {}
    try:
        for key, grad in grads.items():
            stands[key] = emptied(grad)
        for param, grad in pairs:
            param.grad = stands[id(grad)]
    except Exception:
        for param, grad in pairs:
            param.grad = grad
        for key, stand in stands.items():
            if stand is grads[key]:
                stand.copy_(before[key])
        raise
    return [
        _Taken(param, grad, before[id(grad)], stands[id(grad)], version_of(stands[id(grad)]))
        for param, grad in pairs
    ]


def _handed_back(away: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    if any(param.grad is not None for param, _ in away):
        return []
    for param, grad in away:
        param.grad = grad
    return list(away)


@torch.no_grad()
def _brought_back(zeroed: Sequence[_Taken], *, ended: bool) -> list[tuple[Tensor, Tensor]]:
    # All are looked at before the first is written: two parameters may share one.
    ours = [one for one in zeroed if one.param.grad is one.stands and _is_ours(one, ended=ended)]
    for one in ours:
        one.param.grad = _as_it_came(one)
    return [(one.param, one.param.grad) for one in ours if one.param.grad is not None]


def _as_it_came(one: _Taken) -> Tensor:
    if one.stands is not one.grad:
        return one.grad
    try:
        return one.grad.copy_(one.before)
    except RuntimeError:  # one that is expanded can be zeroed, but not written
        return one.before


def _is_ours(one: _Taken, *, ended: bool) -> bool:
    """Whether what stands there is still what was put there; what the step itself has written is undone with it."""
    if version_of(one.stands) == one.version:
        return True
    # One that it has cleared is as it wants it.
    return ended and (one.stands.layout != torch.strided or bool(one.stands.any()))


def _versions(params: Sequence[Tensor]) -> tuple[int, ...]:
    try:  # without a call for each, since this is done at every step that is handed a closure
        return tuple([one._version for one in params])  # noqa: SLF001 - as above
    except RuntimeError:  # some are of inference mode
        return tuple(map(version_of, params))


def _grads(params: Iterable[Tensor]) -> Iterable[Tensor]:
    return (param.grad for param in params if param.grad is not None)
