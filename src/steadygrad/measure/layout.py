"""Where the parameters of one optimizer lie that ranks hold parts of: tensors of other ranks beside this rank's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from steadygrad.measure.kinds import LONG
from steadygrad.records import BoolArray, FloatArray, TensorInfo

_LONG_NAMES = {str(dtype).removeprefix("torch.") for dtype in LONG}


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The rows that all ranks have alike, P of them; a rank holds some.

    Attributes:
        tensors: every tensor of every rank, once, ``P`` entries.
        slots: row of each parameter of this rank's optimizer, in the order of its table.
        group_of: parameter group of each row, ``P`` entries.
        shares: what to multiply this rank's sums of squares by, ``[P]`` float64, so that those of all ranks add up to the
            true ones; 0 where it holds nothing.
        param_norms: norms of the parameters when the ranks met, ``[P]``.
        elsewhere: which rows this rank doesn't hold, ``[P]``.
    """

    tensors: list[TensorInfo]
    slots: list[int]
    group_of: list[int]
    shares: FloatArray
    param_norms: FloatArray
    elsewhere: BoolArray

    def followed_by(self, more: Layout) -> Layout:
        """These rows, and after them those of tensors that have joined since."""
        count = len(self.tensors)
        return Layout(
            tensors=[*self.tensors, *more.tensors],
            slots=[*self.slots, *(count + slot for slot in more.slots)],
            group_of=[*self.group_of, *more.group_of],
            shares=np.concatenate([self.shares, more.shares]),
            param_norms=np.concatenate([self.param_norms, more.param_norms]),
            elsewhere=np.concatenate([self.elsewhere, more.elsewhere]),
        )

    def absent_on_all(self, absent: BoolArray | None) -> BoolArray | None:
        """Of the rows without a gradient here those that this rank holds: what the others have is not missing."""
        if absent is None:
            return None
        own: BoolArray = absent & ~self.elsewhere
        return own if own.any() else None


def holds_long(params: Sequence[Tensor], layout: Layout | None) -> bool:
    """Whether any parameter is float64; the same answer on all ranks, also where only some hold one.

    Args:
        params: the optimizer's, as they lie on this rank; of a tensor that others hold they have an empty float32.
        layout: the rows of all ranks, or None where every rank holds the same.
    """
    if layout is not None:
        return any(tensor.dtype in _LONG_NAMES for tensor in layout.tensors)
    return any(param.dtype in LONG for param in params)
