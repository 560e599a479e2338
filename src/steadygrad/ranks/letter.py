"""What one rank tells of itself in one step, as words behind its sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from steadygrad.ranks.flags import SILENT, Flags
from steadygrad.ranks.lanes import BITS, FLOAT64_BYTES, code, device_code, pack, per_word
from steadygrad.ranks.seen import CODES, loss_words
from steadygrad.records import FloatArray


@dataclass(slots=True)
class Letter:
    """One rank's own numbers; `Seen` is what arrives of all of them.

    Attributes:
        rank: this one.
        world: how many there are.
        loss: its own, 0-d where the host doesn't know it; None where none was logged.
        norm: of a few gradients before reduction, likewise.
        lags: the loss belongs to the step before.
        flags: what recovery has to say.
        fault: measuring has failed here.
        joins: parameters have joined here that the other ranks have no rows for.
        outside: a norm is left out of the sums, because its square is no number: of a gradient, of a parameter.
    """

    rank: int
    world: int
    loss: float | Tensor | None = None
    norm: float | Tensor | None = None
    lags: bool = False
    flags: Flags = SILENT
    fault: bool = False
    joins: bool = False
    outside: tuple[bool, bool] = (False, False)

    def on_host(self, word_bytes: int = FLOAT64_BYTES) -> list[float]:
        """The words; a number that isn't in host memory is waited for.

        Args:
            word_bytes: 8, or 4 where they are to be float32.
        """
        loss, norm = _known(self.loss), _known(self.norm)
        own = code(norm, bad_loss=loss is not None and not math.isfinite(loss))
        return self._words(0.0 if loss is None else loss, own, word_bytes)

    def on_device(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The same where the host mustn't read."""
        word_bytes = dtype.itemsize
        words = torch.tensor(self._words(0.0, 0, word_bytes), dtype=dtype).to(device, non_blocking=True)
        begin, lanes = loss_words(word_bytes), per_word(word_bytes)
        if self.loss is not None:
            loss = torch.as_tensor(self.loss, dtype=torch.float64, device=device)
            words[0] = loss
            if begin > 1:
                words[1] = loss - words[0].to(torch.float64)
        word, lane = divmod(CODES + self.rank, lanes)
        words[begin + word] += device_code(self.norm, self.loss, device).to(dtype) * float(1 << (BITS * lane))
        return words

    def of_all(self, word_bytes: int) -> list[float]:
        """The words without a loss and with nothing in this rank's own place."""
        return self._words(0.0, 0, word_bytes)

    def _words(self, loss: float, own: int, word_bytes: int) -> list[float]:
        lanes = per_word(word_bytes)
        # In the order of the places in `steadygrad.ranks.seen`.
        counts = (
            self.fault,
            *self.outside,
            self.loss is not None,
            self.lags,
            *self.flags,
            self.joins,
        )
        small = [*_parts(loss, loss_words(word_bytes)), *_counted(counts, CODES + self.world, lanes)]
        word, lane = divmod(CODES + self.rank, lanes)
        small[loss_words(word_bytes) + word] += float(own << (BITS * lane))
        return small


class Form:
    """A letter in host memory, step after step: what all count is mostly what it was at the step before.

    Args:
        rank: this one.
        world: how many there are.
    """

    def __init__(self, rank: int, world: int) -> None:
        self._rank, self._world = rank, world
        lanes = per_word(FLOAT64_BYTES)
        word, lane = divmod(CODES + rank, lanes)
        self._place, self._shift = loss_words(FLOAT64_BYTES) + word, BITS * lane
        self._about: tuple[object, ...] = ()
        self._words = np.zeros(0)

    def fill(
        self, out: FloatArray, loss: float | None, norm: float | None, flags: Flags, *about: bool
    ) -> None:
        """Write what `Letter.on_host` returns.

        Args:
            out: where to.
            loss: see `Letter`.
            norm: likewise.
            flags: likewise.
            about: ``lags`` and ``joins``, likewise.
        """
        told = (loss is None, flags, about)
        if told != self._about:
            lags, joins = about
            known = None if loss is None else 0.0
            letter = Letter(self._rank, self._world, known, None, lags, flags, joins=joins)
            self._about, self._words = told, np.array(letter.of_all(FLOAT64_BYTES))
        out[:] = self._words
        bad_loss = False
        if loss is not None:
            out[0], bad_loss = loss, not math.isfinite(loss)
        out[self._place] += float(code(norm, bad_loss=bad_loss) << self._shift)


@lru_cache(maxsize=64)
def _counted(counts: tuple[float, ...], places: int, lanes: int) -> tuple[float, ...]:
    """Words with what all count; mostly the same ones as at the step before."""
    return tuple(pack(((place, int(count)) for place, count in enumerate(counts) if count), places, lanes))


def _known(number: float | Tensor | None) -> float | None:
    return float(number) if isinstance(number, Tensor) else number


def _parts(loss: float, words: int) -> list[float]:
    if words == 1:
        return [loss]
    with np.errstate(over="ignore"):
        upper = float(np.float32(loss))
    return [upper, loss - upper]
