"""Measuring this rank's parts alone, where the other ranks aren't there to add theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.measure import own_part
from steadygrad.records import FloatArray


class OwnParts:
    """Takes the place of `Ranks` without a word to anybody.

    The norm of a DTensor is a collective of all ranks that hold it: one that some of them never come to
    waits for ever.
    """

    sharded = False

    def grow(self) -> None:
        """Parameters were appended."""

    def own_parts(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """This rank's parts, as plain tensors."""
        return [own_part(tensor) for tensor in tensors]

    def join(self, norms: Tensor, param_norms: Tensor | None, step: int) -> list[Tensor]:
        """The norms of the parts, as they are."""
        del step
        return [one for one in (norms, param_norms) if one is not None]

    def join_host(self, norms: FloatArray, step: int) -> NDArray[np.float64]:
        """The same."""
        del step
        return norms.astype(np.float64)
