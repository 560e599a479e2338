"""Norms outside the measured step: when a parameter is met, and where measuring is off."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steadygrad.measure import dense_values


def plain_total(params: Sequence[Tensor]) -> Tensor:
    """Total norm of the gradients, as ``clip_grad_norm_`` returns it."""
    norms = [torch.linalg.vector_norm(param.grad.detach()) for param in params if param.grad is not None]
    home = norms[0].device if norms else None
    return torch.linalg.vector_norm(torch.stack([n.to(home) for n in norms])) if norms else torch.zeros(())


def host_norm(param: Tensor) -> Tensor:
    """Norm of one parameter, on the host: once, when it is met."""
    if torch.nn.parameter.is_lazy(param):
        return torch.zeros(())
    value = dense_values(param.detach())
    dtype = torch.float32 if value.dtype in (torch.float16, torch.bfloat16) else None
    norm = torch.linalg.vector_norm(value, dtype=dtype)
    whole: Tensor = getattr(norm, "full_tensor", lambda: norm)()
    return whole.cpu().float()
