r"""Sums of squares of norms that may be as small or as large as the numbers themselves.

The square of a norm leaves a float's range long before the norm does. So two sums instead of one: small norms are
multiplied by a power of two before they are squared, large ones divided, and in the end one root takes both back
(Blue, A portable Fortran program to find the Euclidean norm of a vector, ACM TOMS 4, 1978). Nobody has to know which
ranks have which, and nothing is sent twice.

Shape legend: P tensors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Halves(NamedTuple):
    """How norms are split.

    Attributes:
        dtype: of the sums.
        border: norms from here on are large.
        up: what small norms are multiplied by.
        down: what large norms are multiplied by.
        least: smallest norm whose square keeps all digits.
        most: largest norm whose squares can be added up.
    """

    dtype: torch.dtype
    border: float
    up: float
    down: float
    least: float
    most: float

    def split(self, norms: Tensor, shares: Tensor) -> Tensor:
        """What one rank puts in, ``[2 P]``.

        Args:
            norms: of its parts, ``[P]``.
            shares: what to multiply the squares by, ``[P]``.
        """
        wide = norms.to(torch.float64)
        is_small = wide < self.border  # a NaN is large
        small = torch.where(is_small, wide * self.up, 0.0).square()
        large = torch.where(is_small, 0.0, wide * self.down).square()
        return torch.cat([small * shares, large * shares]).to(self.dtype)

    def joined(self, sums: Tensor) -> Tensor:
        """Norms ``[P]`` in float64, from what all ranks put in, ``[2 P]``."""
        small, large = sums.to(torch.float64).chunk(2)
        # In two steps: the product of both is no float64.
        rest = small / self.up / self.up * self.down * self.down
        return torch.where(large == 0.0, small.sqrt() / self.up, (large + rest).sqrt() / self.down)


NARROW = Halves(torch.float32, 2.0**8, 2.0**48, 2.0**-71, 2.0**-111, 2.0**134)
"""Two float32 take what a float64 takes of any float32's norm, with the digits of a float32, over up to 32,768 ranks."""
WIDE = Halves(torch.float64, 1.0, 2.0**500, 2.0**-500, 2.0**-1010, 2.0**1001)
"""Norms of 1e-304 to 1e301: what a float64 can be, but for its last few powers of ten."""

SQUARES = (2.0**-500, 2.0**500)
"""Norms whose squares can be added up in float64 as they are; smaller and larger are outside."""
WEIGHTS = (2.0**-33, 2.0**85)
"""Norms of parameters whose squares can be added up in one float32, divided by `_WEIGHTS_DOWN` before."""
_WEIGHTS_DOWN = 2.0**30


def weights_split(norms: Tensor, shares: Tensor) -> Tensor:
    """What one rank puts in for its parts of the parameters, ``[P]``, float32."""
    return ((norms.to(torch.float64) / _WEIGHTS_DOWN).square() * shares).to(torch.float32)


def weights_joined(sums: Tensor) -> Tensor:
    """Norms of parameters ``[P]`` in float64, from what all ranks put in."""
    return sums.to(torch.float64).sqrt() * _WEIGHTS_DOWN


def inside(norms: Tensor, least: float, most: float) -> tuple[Tensor, bool]:
    """The norms with 0 for each that is finite and outside; whether there is one. The host waits for the answer."""
    wide = norms.to(torch.float64)
    outside = wide.isfinite() & ((wide > most) | (wide < least)) & (wide != 0.0)
    found = bool(outside.any())
    return (wide.masked_fill(outside, 0.0), True) if found else (norms, False)
