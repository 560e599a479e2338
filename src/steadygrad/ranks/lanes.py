"""Small whole numbers side by side in the words of a sum.

A float64 adds whole numbers below 2^53 exactly, so three of 17 bits fit into one, and a float32 takes one. Where each
rank writes only its own place, a number of one rank arrives whole by the same sum that counts flags.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.records import BoolArray, FloatArray

IntArray: TypeAlias = NDArray[np.int64]

BITS = 17
"""Of one number: counts of up to 131,071 ranks."""
_MASK = (1 << BITS) - 1
FLOAT64_BYTES = 8
_NORM_BITS = 16
_NO_NORM = 0xFFFF
_NAN = 0xFF80
_LARGEST = float(np.finfo(np.float32).max)


def per_word(word_bytes: int) -> int:
    """Numbers in a word of 8 bytes (a float64), or of 4."""
    return 3 if word_bytes == FLOAT64_BYTES else 1


def words_for(count: int, lanes: int) -> int:
    """Words that ``count`` numbers take."""
    return -(-count // lanes)


def pack(numbers: Iterable[tuple[int, int]], count: int, lanes: int) -> list[float]:
    """Words with some numbers in them.

    Args:
        numbers: place and number; the others are 0.
        count: places there are.
        lanes: numbers in a word.

    Example:
        >>> pack([(0, 1), (4, 5)], 6, 3) == [1.0, 5.0 * 2**17]
        True
    """
    words = [0.0] * words_for(count, lanes)
    for place, number in numbers:
        word, lane = divmod(place, lanes)
        words[word] += float(number << (BITS * lane))
    return words


def unpack(words: FloatArray, lanes: int) -> IntArray:
    """All numbers that lie in the words.

    Example:
        >>> unpack(np.array([1.0, 5.0 * 2**17]), 3).tolist()
        [1, 0, 0, 0, 5, 0]
    """
    shifts = BITS * np.arange(lanes)
    numbers: IntArray = (words.astype(np.int64)[:, None] >> shifts & _MASK).reshape(-1)
    return numbers


def code(norm: float | None, *, bad_loss: bool) -> int:
    """What one rank saw, in 17 bits: a norm to 0.4 %, and whether its loss is no finite number.

    The upper half of a float32 without its sign and with one digit more: eight bits of exponent, eight of the fraction.

    Args:
        norm: at least 0, NaN or Inf; None if there is none.
        bad_loss: a loss was logged that isn't finite.
    """
    flag = int(bad_loss) << _NORM_BITS
    if norm is None:
        return flag | _NO_NORM
    if math.isnan(norm):
        return flag | _NAN
    narrow = norm if math.isinf(norm) else min(norm, _LARGEST)
    bits: int = struct.unpack("<I", struct.pack("<f", narrow))[0]
    return flag | bits >> (_NORM_BITS - 1)


def device_code(norm: Tensor | float | None, loss: Tensor | float | None, device: torch.device) -> Tensor:
    """`code`, 0-d, of numbers that the host mustn't read."""
    if norm is None:
        half = torch.tensor(_NO_NORM, device=device)
    else:
        wide = torch.as_tensor(norm, dtype=torch.float64, device=device)
        narrow = torch.where(wide.isinf(), wide, wide.clamp(max=_LARGEST)).to(torch.float32)
        half = torch.where(wide.isnan(), _NAN, narrow.view(torch.int32) >> (_NORM_BITS - 1))
    if loss is None:
        return half
    bad = torch.as_tensor(loss, device=device).isfinite().logical_not()
    return half + (bad.to(torch.int32) << _NORM_BITS)


def norms_in(codes: IntArray) -> FloatArray:
    """The norms, -1 where there was none."""
    halves = codes & _NO_NORM
    norms = (halves << (_NORM_BITS - 1)).astype(np.uint32).view(np.float32).astype(np.float64)
    return np.where(halves == _NO_NORM, -1.0, norms)


def norm_in(code: int) -> float:
    """One of `norms_in`: for a single number arrays take ten times as long."""
    half = code & _NO_NORM
    if half == _NO_NORM:
        return -1.0
    norm: float = struct.unpack("<f", struct.pack("<I", half << (_NORM_BITS - 1)))[0]
    return norm


def lane_of(words: FloatArray, place: int, lanes: int) -> int:
    """One of the numbers that `unpack` finds.

    Example:
        >>> lane_of(np.array([1.0, 5.0 * 2**17]), 4, 3)
        5
    """
    word, lane = divmod(place, lanes)
    return int(words[word]) >> (BITS * lane) & _MASK


def bad_losses_in(codes: IntArray) -> BoolArray:
    """Where a loss was logged that isn't finite."""
    bad: BoolArray = codes >> _NORM_BITS > 0
    return bad
