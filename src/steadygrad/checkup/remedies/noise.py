"""Gradients of one batch, as noisy as those of batches that change."""

from __future__ import annotations

import torch
from torch import Tensor

from steadygrad.checkup.rehearsal import Setup


def add_noise(setup: Setup) -> None:
    """Have each step learn from rows drawn from the batch anew, with replacement: a bootstrap of its gradient.

    A rate may learn one batch by heart and be too much for batches that follow, whose gradients differ. The gradient of
    a row drawn ``k`` times counts ``k`` times, ``k`` after Poisson with mean 1: the noise is that of a batch as large as
    this one. The loss stays that of the whole batch.

    ``output = stop(output) + k (output - stop(output))``

    Args:
        setup: of a copy; rows are the first dimension of its output, and an output without rows stays without noise.

    Source:
        Oza and Russell, Online bagging and boosting, 2001, section 2.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(output: Tensor) -> Tensor:
        if output.dim() == 0 or len(output) == 1:
            return output
        times = torch.poisson(torch.ones(len(output)), generator=generator).to(output)
        held = output.detach()
        # Inf - Inf would be NaN, which is no noise.
        apart = torch.where(torch.isfinite(held), output - held, 0.0)
        return held + times.view(-1, *[1] * (output.dim() - 1)) * apart

    setup.read.append(drawn)
