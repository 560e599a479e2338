"""Sums of squares of float64 norms in one float64 each, where those of the step before are known to all ranks.

The square of a norm has twice its exponent, and a float64's takes all there is of it. But from one step to the next a norm
changes by far less: divided by what it was, its square is in range for any change up to a factor of 1e150. A finite norm that
changes by more is told as one that has changed by so much: it stays finite, and 0 stays 0.

Shape legend: P tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 2.0**500
"""Largest change between two steps, in either direction, whose square keeps all digits, over up to 100,000 ranks."""


class Near:
    """Splits and joins beside the norms of the step before; before the first beside 1."""

    def __init__(self) -> None:
        self._before: Tensor | None = None

    def split(self, norms: Tensor, shares: Tensor) -> Tensor:
        """What one rank puts in, ``[P]`` float64.

        Args:
            norms: of its parts, ``[P]``.
            shares: what to multiply the squares by, ``[P]``.
        """
        wide = norms.to(torch.float64)
        change = wide if self._before is None else wide / self._before
        told = torch.where(wide.isfinite() & (wide > 0.0), change.clamp(1.0 / MOST, MOST), wide)
        return told.square() * shares

    def joined(self, sums: Tensor) -> Tensor:
        """Norms ``[P]`` in float64, from what all ranks put in, ``[P]``."""
        norms = sums.sqrt()
        return norms if self._before is None else norms * self._before

    def keep(self, norms: Tensor) -> Tensor:
        """The true norms of a step, for the next one; as they are."""
        usable = norms.isfinite() & (norms > 0.0)
        self._before = torch.where(usable, norms, 1.0)
        return norms
