"""The gradient of this rank alone, before DistributedDataParallel takes the mean over all.

A hook on a parameter sees the gradient before it is accumulated and reduced, and leaves DDP's own path
(buckets, communication hooks) as it is. A NaN spreads over nearly all gradients, so a few small tensors
are enough: no pass over memory. In the backward pass they are only kept, and measured together at the step: whatever is
called there for the first time in a step takes several times as long as it does alone. Who keeps a gradient has autograd copy
it where it would have handed it on, so that what is kept is never reduced. Only micro-batches after the first are added up there.

Nobody takes the norm of a step that a ``GradScaler`` leaves out. Where a gradient was cleared, what is kept of it is
from such a step and is forgotten, so that an overflow isn't told of the healthy step after it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from steadygrad.capture import is_capturing
from steadygrad.containment import Containment
from steadygrad.measure import LEAST_SURE, HostNorms, device_norms, is_sharded

PART = "local gradient norm"
SAMPLED = 4
_MAX_NUMEL = 65_536
_SMALL_NUMEL = 4096
"""So much is copied and measured in less time than the calls take."""


class LocalNorms:
    """Takes the norm of a few local gradients from one step to the next; micro-batches are added up, as the step does.

    Args:
        params: the parameters; a few small ones, spread from first to last, are hooked.
        late: the host mustn't wait for their norm.
        containment: holds back a gradient that can't be measured (batched by vmap, say), and ends this part then.
    """

    def __init__(self, params: Sequence[Tensor], *, late: bool, containment: Containment) -> None:
        self._late = late
        self._containment = containment
        sampled = _spread(params)
        # Weakly, because a hook on a parameter that holds this parameter would keep the model alive.
        self._params = [weakref.ref(param) for param in sampled]
        self._kept: list[Tensor | None] = [None] * len(sampled)
        self._own: list[Tensor | None] = [None] * len(sampled)
        self._handles: list[RemovableHandle] = [
            param.register_hook(self._hook(index, held, captures=param.is_cuda))  # type: ignore[no-untyped-call]
            for index, (param, held) in enumerate(zip(sampled, self._params, strict=True))
        ]

    def take(self, *, complete: bool = False) -> Tensor | float | None:
        """Their norm since the last call, 0-d where the host mustn't wait; None where there was no gradient.

        Args:
            complete: every parameter is known to have a gradient.
        """
        norm = self._containment.run(PART, self._measured, complete)
        if norm is None and PART in self._containment.off:
            self.close()
        return norm

    def close(self) -> None:
        """Take all hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._kept[:] = [None] * len(self._kept)

    def _hook(
        self, index: int, param: weakref.ref[Tensor], *, captures: bool
    ) -> Callable[[Tensor | None], None]:
        kept, add = self._kept, partial(self._containment.run, PART, self._add, index)

        def keep(grad: Tensor | None) -> None:
            # This runs inside the user's backward pass, before the gradient is added to what the parameter holds. It is
            # hardly more than nothing in nearly every step, since whatever is called here costs more than what it does.
            # Without a gradient for this one torch calls it all the same.
            there = param()
            if grad is None or there is None or (captures and is_capturing()):
                return
            if there.grad is None:
                kept[index] = grad
            else:
                add(there.grad, grad)

        return keep

    def _add(self, index: int, held: Tensor, grad: Tensor) -> None:
        """Add a micro-batch to those before it; what is kept of them may still be autograd's own tensor."""
        before = self._kept[index]
        if before is None or grad.layout != torch.strided or before.layout != torch.strided:
            self._kept[index] = grad
            return
        if before is not self._own[index]:
            before = before.detach().to(_sum_dtype(before), copy=True)
        if held.layout == torch.strided:
            # zero_grad(set_to_none=False): where nothing has been added up since, nothing is kept here either.
            before.masked_fill_(held.detach() == 0, 0.0)
        self._kept[index] = self._own[index] = before.add_(grad.detach())

    def _measured(self, complete: bool) -> Tensor | float | None:  # noqa: FBT001 - of one call
        kept = [grad for grad in self._kept if grad is not None]
        if not complete or len(kept) < len(self._kept):
            came = self._of_this_step()
            if not came:
                self._kept[:] = [None] * len(self._kept)
                return 0.0 if kept else None
            kept = came
        self._kept[:] = [None] * len(self._kept)
        if self._late:
            whole: Tensor = torch.linalg.vector_norm(device_norms(kept))
            return whole
        return _host_norm(kept)

    def _of_this_step(self) -> list[Tensor]:
        """Without what is kept of gradients that were cleared since."""
        both = zip(self._kept, self._params, strict=True)
        return [grad for grad, param in both if grad is not None and _grad_of(param) is not None]


def _host_norm(kept: list[Tensor]) -> float:
    if all(grad.dtype == torch.float32 and grad.layout == torch.strided for grad in kept):
        norms: Sequence[Tensor] = torch._foreach_norm(kept)
        norm = math.hypot(*[one.item() for one in norms])
        # Where no square has left float32's range, as in nearly every step.
        if LEAST_SURE < norm < math.inf:
            return norm
    return HostNorms(kept)([grad.detach() for grad in kept])[1]


def _grad_of(param: weakref.ref[Tensor]) -> Tensor | None:
    there = param()
    return None if there is None else there.grad


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype


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
