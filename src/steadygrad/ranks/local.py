"""The gradient of this rank alone, before DistributedDataParallel takes the mean over all.

A hook on a parameter sees the gradient before it is accumulated and reduced, and leaves DDP's own path
(buckets, communication hooks) as it is. A NaN spreads over nearly all gradients, so a few small tensors
are enough: no pass over memory. In the backward pass they are only added to a buffer: whatever is called there for the
first time in a step takes several times as long as it does alone.

Nobody takes the norm of a step that a ``GradScaler`` leaves out. Where a gradient was cleared, what the buffer holds of it is
from such a step and is forgotten, so that an overflow isn't told of the healthy step after it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from steadygrad.capture import is_capturing
from steadygrad.containment import Containment
from steadygrad.measure import LEAST_SURE, is_sharded

PART = "local gradient norm"
SAMPLED = 4
_MAX_NUMEL = 65_536
_SMALL_NUMEL = 4096
"""So much is copied in less time than the call takes."""


class LocalNorms:
    """Takes the norm of a few local gradients from one step to the next; micro-batches are added up, as the step does.

    Args:
        params: the parameters; a few small ones, spread from first to last, are hooked.
        late: the host mustn't wait for their norm.
        containment: holds back a gradient that can't be added up (batched by vmap, say), and ends this part then.
    """

    def __init__(self, params: Sequence[Tensor], *, late: bool, containment: Containment) -> None:
        self._late = late
        self._containment = containment
        self._came = False
        sampled = _spread(params)
        wide = any(param.dtype == torch.float64 for param in sampled)
        home = sampled[0].device if sampled else None
        sizes = [param.numel() for param in sampled]
        self._sum = torch.zeros(sum(sizes), dtype=torch.float64 if wide else torch.float32, device=home)
        places = torch.split(self._sum, sizes) if sampled else ()
        # Weakly, because a hook on a parameter that holds this parameter would keep the model alive.
        self._places = [
            (weakref.ref(param), place.view(param.shape))
            for param, place in zip(sampled, places, strict=True)
        ]
        self._handles: list[RemovableHandle] = [
            param.register_hook(partial(containment.run, PART, self._add, *held))  # type: ignore[no-untyped-call]
            for param, held in zip(sampled, self._places, strict=True)
        ]

    def take(self) -> Tensor | float | None:
        """Their norm since the last call, 0-d where the host mustn't wait; None where there was no gradient."""
        if PART in self._containment.off:
            self.close()
            return None
        if not self._came:
            return None
        self._came = False
        for param, place in self._places:
            if _grad_of(param) is None:
                place.zero_()
        norm: Tensor | float
        if self._late:
            norm = torch.linalg.vector_norm(self._sum, dtype=torch.float64)
        else:
            norm = _host_norm(self._sum)
        self._sum.zero_()
        return norm

    def close(self) -> None:
        """Take all hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _add(self, param: weakref.ref[Tensor], place: Tensor, grad: Tensor | None) -> None:
        # This runs inside the user's backward pass, before the gradient is added to what the parameter holds. Without
        # a gradient for this one torch calls it all the same.
        if grad is None or grad.layout != torch.strided or is_capturing():
            return
        held = _grad_of(param)
        if held is None:
            place.copy_(grad.detach())
        else:
            if held.layout == torch.strided:
                # zero_grad(set_to_none=False): where nothing has been added up since, nothing is held here either.
                place.masked_fill_(held.detach() == 0, 0.0)
            place.add_(grad.detach())
        self._came = True


def _grad_of(param: weakref.ref[Tensor]) -> Tensor | None:
    there = param()
    return None if there is None else there.grad


def _host_norm(numbers: Tensor) -> float:
    # Half of a norm's time, where the square of a float32 is in its range.
    square = torch.dot(numbers, numbers).item()
    if LEAST_SURE**2 < square < math.inf:
        return math.sqrt(square)
    norm: float = torch.linalg.vector_norm(numbers, dtype=torch.float64).item()
    return norm


def _spread(params: Sequence[Tensor]) -> list[Tensor]:
    fit = [
        param
        for param in params
        if param.requires_grad
        and param.is_leaf
        and not torch.nn.parameter.is_lazy(param)
        and not is_sharded(param)
        and param.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        and 0 < param.numel() <= _MAX_NUMEL
    ]
    fit = [param for param in fit if param.device == fit[0].device]
    small = [param for param in fit if param.numel() <= _SMALL_NUMEL]
    fit = small if len(small) >= SAMPLED else fit
    last = len(fit) - 1
    return [fit[i] for i in sorted({round(k * last / (SAMPLED - 1)) for k in range(SAMPLED)})] if fit else []
