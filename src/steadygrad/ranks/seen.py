"""What each rank saw by itself in one step, as it arrives behind the sums in the collective."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from steadygrad.ranks.flags import Flags
from steadygrad.ranks.lanes import (
    FLOAT64_BYTES,
    IntArray,
    bad_losses_in,
    lane_of,
    norm_in,
    norms_in,
    per_word,
    unpack,
    words_for,
)
from steadygrad.records import BoolArray, FloatArray

# What all ranks count together, first what every step has to know: they share the first word of a float64.
FAULT, OUTSIDE, WEIGHTS_OUTSIDE, LOSSES, LAGS, FLAGS = range(6)
JOINS = FLAGS + len(Flags._fields)
CODES = JOINS + 1
"""Place of the first rank's own number, behind those that are counted."""


def loss_words(word_bytes: int) -> int:
    """Words for the sum of the losses: a float32 has half its digits, so it takes two."""
    return FLOAT64_BYTES // word_bytes


@dataclass(frozen=True)
class Seen:
    """The numbers of one step that belong to single ranks, n of them; taken apart only where somebody asks.

    Attributes:
        step: of the optimizer.
        words: sum of the losses, and small numbers side by side (`lanes`): counts, then a code for each rank.
        world: number of ranks.
    """

    step: int
    words: FloatArray
    world: int

    @cached_property
    def _lanes(self) -> int:
        return per_word(self.words.itemsize)

    @cached_property
    def _small(self) -> FloatArray:
        return self.words[loss_words(self.words.itemsize) :]

    @cached_property
    def _counts(self) -> list[int]:
        counted: list[int] = unpack(self._small[: words_for(CODES, self._lanes)], self._lanes)[
            :CODES
        ].tolist()
        return counted

    @cached_property
    def _codes(self) -> IntArray:
        return unpack(self._small, self._lanes)[CODES : CODES + self.world]

    @property
    def bad_losses(self) -> BoolArray:
        """Whether each rank's loss was logged and no finite number, ``[n]``."""
        return bad_losses_in(self._codes)

    @property
    def logged(self) -> int:
        """How many ranks have logged a loss."""
        return self._counts[LOSSES]

    @cached_property
    def norms(self) -> FloatArray:
        """Norm of a few local gradients, ``[n]``, to 0.4 %; NaN or Inf where they are, -1 where unknown."""
        return norms_in(self._codes)

    def norm_of(self, rank: int) -> float:
        """One rank's number of `norms`."""
        return norm_in(lane_of(self._small, CODES + rank, self._lanes))

    @cached_property
    def flags(self) -> Flags:
        """What recovery has to say, added up over the ranks."""
        return Flags(*self._counts[FLAGS:JOINS])

    @property
    def lags(self) -> bool:
        """Whether the losses are those of the step before."""
        # Perhaps one rank alone logs a loss: what holds for it holds for all.
        return self._counts[LAGS] > 0

    @property
    def is_plain(self) -> bool:
        """Whether nothing has to be asked or told beside the sums, as in nearly every step."""
        if self.words.itemsize == FLOAT64_BYTES:
            return bool(self.words[1] == 0.0)
        return not self._small[: 1 + WEIGHTS_OUTSIDE].any()

    @property
    def fault(self) -> bool:
        """Whether measuring has failed on a rank."""
        return self._counts[FAULT] > 0

    @property
    def joins(self) -> bool:
        """Whether parameters have joined on a rank that the others have no rows for."""
        return self._counts[JOINS] > 0

    @property
    def outside(self) -> tuple[bool, bool]:
        """Whether a rank has a norm whose square can't be added up: of a gradient, of a parameter."""
        return self._counts[OUTSIDE] > 0, self._counts[WEIGHTS_OUTSIDE] > 0

    @cached_property
    def loss(self) -> float | None:
        """Mean of the losses that were logged, the same to the last bit on every rank; None without one."""
        if not self.logged:
            return None
        mean = float(self.words[: loss_words(self.words.itemsize)].sum(dtype=np.float64)) / self.logged
        return mean if math.isfinite(mean) else math.nan
