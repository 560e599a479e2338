"""How large numbers are."""

from __future__ import annotations

from torch import Tensor


def root_mean_square(values: Tensor) -> float:
    """Root of the mean of the squares, taken in float32."""
    return float(values.detach().float().square().mean().sqrt())
