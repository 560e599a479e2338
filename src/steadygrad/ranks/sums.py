"""What one rank puts into a step's collective as sums of squares, and the true norms that come out of it.

Shape legend: P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steadygrad.measure import Layout, holds_long
from steadygrad.ranks.halves import (
    NARROW,
    SQUARES,
    WEIGHTS,
    WIDE,
    inside,
    weights_joined,
    weights_split,
)
from steadygrad.ranks.letter import Letter
from steadygrad.ranks.near import Near
from steadygrad.ranks.shards import shares
from steadygrad.records import FloatArray


class Sums:
    """Splits this rank's norms into sums of squares, and joins those of all ranks.

    A float64's square can leave a float64's range, a parameter's that of a float32. In host memory such a norm is left out
    of the sums, and the letter beside them says so: then all add up what `wide` splits. On an accelerator nobody may look
    whether there is one, so float64 parameters are always split so, but for the steps whose vector has the parameters too: there
    each norm is divided by that of the step before (`Near`), for the same number of bytes.

    Args:
        params: the optimizer's parameters, ``P`` of them.
        world: number of ranks.
        late: they live on an accelerator.
        layout: the rows of all ranks, where they hold different tensors.
    """

    def __init__(self, params: Sequence[Tensor], world: int, *, late: bool, layout: Layout | None) -> None:
        self._late = late
        self._shares = shares(params, world) if layout is None else torch.from_numpy(layout.shares)
        self._own_shares: FloatArray = self._shares.numpy()
        # Of all ranks' rows: by its own parameters alone a rank would bring a vector of another length than the others.
        long = holds_long(params, layout)
        self._can_leave = long and not late
        self._is_wide = long and late
        self._near = Near()

    def __len__(self) -> int:
        """Number of parameters."""
        return len(self._shares)

    @property
    def plain(self) -> bool:
        """Whether a step without the parameters' norms is nothing but squares in host memory; see `square_into`."""
        return not (self._late or self._can_leave)

    def square_into(self, norms: FloatArray, words: FloatArray) -> None:
        """Write what this rank puts in, where that is `plain`.

        Args:
            norms: of this rank's parts, ``[P]``.
            words: where to, ``[P]`` float64.
        """
        # Squaring with another dtype for the result goes through numpy's buffers, which takes longer than three such calls.
        words[...] = norms
        words *= words
        words *= self._own_shares

    def split(self, norms: Tensor, param_norms: Tensor | None, letter: Letter) -> Tensor:
        """What this rank puts in, 1-d.

        Args:
            norms: of this rank's parts of the gradients, ``[P]``.
            param_norms: the same of the parameters, or None.
            letter: is told what is left out.
        """
        share = self._shares.to(norms.device)
        if self._is_wide:
            if param_norms is None:
                return WIDE.split(norms, share)
            return torch.cat([self._near.split(norms, share), _squares(param_norms, share)])
        if param_norms is None:
            left_out = False
            if self._can_leave:
                norms, left_out = inside(norms, *SQUARES)
            letter.outside = left_out, False
            return _squares(norms, share)
        if not self._late:
            norms, left_out = inside(norms, NARROW.least, NARROW.most)
            param_norms, weight_left_out = inside(param_norms, *WEIGHTS)
            letter.outside = left_out, weight_left_out
        return torch.cat([NARROW.split(norms, share), weights_split(param_norms, share)])

    def joined(self, sums: Tensor, *, with_weights: bool) -> list[Tensor]:
        """True norms ``[P]`` in float64, and those of the parameters, from the sums of all ranks."""
        if self._is_wide:
            if not with_weights:
                return [self._near.keep(WIDE.joined(sums))]
            squares, weights = sums.chunk(2)
            return [self._near.keep(self._near.joined(squares)), weights.sqrt()]
        if with_weights:
            count = len(sums) // 3
            return [NARROW.joined(sums[: 2 * count]), weights_joined(sums[2 * count :])]
        return [sums.sqrt()]

    def wide(self, norms: Tensor) -> Tensor:
        """What this rank puts in once more where some norms were left out, ``[2 P]``; `steadygrad.ranks.halves.WIDE` joins."""
        return WIDE.split(norms, self._shares)


def _squares(norms: Tensor, shares: Tensor) -> Tensor:
    return norms.to(torch.float64).square() * shares
