"""What each rank saw by itself in one step, as it arrives behind the sums in the collective."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from steadygrad.ranks.flags import Flags
from steadygrad.records import FloatArray

NO_LOSS = -1e300
NO_SQUARE = -1.0


@dataclass(frozen=True)
class Seen:
    """The numbers of one step that belong to single ranks, n of them; taken apart only where somebody asks.

    Attributes:
        step: of the optimizer.
        numbers: losses ``[n]``, squares of local norms ``[n]``, `Flags`, lag, fault.
        world: number of ranks.
    """

    step: int
    numbers: FloatArray
    world: int

    @property
    def losses(self) -> FloatArray:
        """``[n]``; `NO_LOSS` where none was logged."""
        return self.numbers[: self.world]

    @cached_property
    def norms(self) -> FloatArray:
        """Norm of a few local gradients, ``[n]``; NaN or Inf where they are, -1 where unknown."""
        squares = self.numbers[self.world : 2 * self.world]
        with np.errstate(invalid="ignore"):
            norms: FloatArray = np.where(squares == NO_SQUARE, -1.0, np.sqrt(np.abs(squares)))
        return norms

    def norm_of(self, rank: int) -> float:
        """One rank's number of `norms`."""
        square = float(self.numbers[self.world + rank])
        return -1.0 if square == NO_SQUARE else math.sqrt(abs(square))

    @cached_property
    def flags(self) -> Flags:
        """What recovery has to say, added up over the ranks."""
        return Flags(*self.numbers[2 * self.world : -2].tolist())

    @property
    def lags(self) -> bool:
        """Whether the losses are those of the step before."""
        # Perhaps one rank alone logs a loss: what holds for it holds for all.
        return bool(self.numbers[-2] > 0.0)

    @property
    def fault(self) -> bool:
        """Whether measuring has failed on a rank."""
        return bool(self.numbers[-1] != 0.0)

    @cached_property
    def loss(self) -> float | None:
        """Mean of the losses that were logged, the same to the last bit on every rank; None without one."""
        logged = [loss for loss in self.losses.tolist() if loss != NO_LOSS]
        if not logged:
            return None
        return math.fsum(logged) / len(logged) if all(map(math.isfinite, logged)) else math.nan
