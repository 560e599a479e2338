"""Weights that start at 0 on purpose: a residual branch, a new head, an adapter.

In the very first step no gradient passes them, and after it all is well. Such a model is judged as it will be
once they have moved.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

MOST_SHARE = 0.5
"""Share of a model's weight matrices that may be 0; where nearly all are, nothing breaks the symmetry."""


def awake(model: nn.Module) -> nn.Module | None:
    """A copy in which weights of exactly 0 have random values; None where there are none to wake.

    Args:
        model: is not changed.
    """
    weights = {
        name: param
        for name, param in model.named_parameters()
        if param.dim() > 1 or (param.dim() == 1 and name.endswith("weight"))
    }
    zero = [name for name, param in weights.items() if _is_zero(param)]
    if not zero or len(zero) > MOST_SHARE * len(weights):
        return None
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, param in twin.named_parameters():
            if name in zero:
                spread = param[0].numel() ** -0.5 if param.dim() > 1 else 0.0
                # The scale of a normalisation moves towards 1.
                noise = torch.randn(param.shape, generator=generator).to(param)
                param.copy_(spread * noise if spread else torch.full_like(param, 0.1))
    return twin


def _is_zero(param: Tensor) -> bool:
    return not bool(param.detach().any())
