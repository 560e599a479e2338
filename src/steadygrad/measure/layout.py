"""Where the parameters of one optimizer lie that ranks hold parts of: tensors of other ranks beside this rank's own."""

from __future__ import annotations

from dataclasses import dataclass

from steadygrad.records import BoolArray, FloatArray, TensorInfo


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

    def absent_on_all(self, absent: BoolArray | None) -> BoolArray | None:
        """Of the rows without a gradient here those that this rank holds: what the others have is not missing."""
        if absent is None:
            return None
        own: BoolArray = absent & ~self.elsewhere
        return own if own.any() else None
