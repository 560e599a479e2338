"""The gradient of this rank alone, before DistributedDataParallel takes the mean over all.

A hook on a parameter sees the gradient before it is accumulated and reduced, and leaves DDP's own path
(buckets, communication hooks) as it is. A NaN spreads over nearly all gradients, so a few small tensors
are enough: no pass over memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from steadygrad.capture import is_capturing
from steadygrad.measure import is_sharded

SAMPLED = 4
_MAX_NUMEL = 65_536


class LocalNorms:
    """Takes the norm of a few local gradients from one step to the next.

    Args:
        params: the parameters; a few small ones, spread from first to last, are hooked.
        late: the host mustn't wait for their norm.
    """

    def __init__(self, params: Sequence[Tensor], *, late: bool) -> None:
        self._late = late
        self._norms: list[Tensor] = []
        self._handles: list[RemovableHandle] = [
            param.register_hook(self._add)  # type: ignore[no-untyped-call]
            for param in _spread(params)
        ]

    def take(self) -> Tensor | float | None:
        """Their norm since the last call, 0-d where the host mustn't wait; None where there was no gradient."""
        norms, self._norms = self._norms, []
        if not norms:
            return None
        if not self._late:
            return math.hypot(*[norm.item() for norm in norms])
        joined: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
        return joined

    def close(self) -> None:
        """Take all hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _add(self, grad: Tensor) -> None:
        # This runs inside the user's backward pass: nothing that could fail may happen here.
        if grad.layout == torch.strided and not is_capturing():
            self._norms.append(torch.linalg.vector_norm(grad.detach(), dtype=torch.float64))


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
    last = len(fit) - 1
    return [fit[i] for i in sorted({round(k * last / (SAMPLED - 1)) for k in range(SAMPLED)})] if fit else []
