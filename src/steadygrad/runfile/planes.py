"""Arrays as compressed byte planes: the lowest layer of a packed chunk.

All first bytes of an array's numbers, then all second bytes, and so on: noisy low bytes don't
spoil the compression of the calm high ones. A plane is stored constant, raw or deflated,
whichever is smallest.
"""

from __future__ import annotations

import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steadygrad.errors import RunFileError

Precision = Literal["exact", "single", "short", "brief"]

_CONSTANT, _RAW, _DEFLATED = range(3)
_DICTIONARY, _DOUBLE, _FLOATS = 0, 1, 16  # kinds above: _FLOATS + 2 * bits dropped + order - 1
_MAX_DISTINCT = 255
_DROPPED_BITS = {"exact": 0, "single": 0, "short": 8, "brief": 12}


class PlaneWriter:
    """Collects arrays into one byte string; `PlaneReader` reads them back in the same order."""

    def __init__(self) -> None:
        """Start empty."""
        self._parts: list[bytes] = []

    def getvalue(self) -> bytes:
        """Everything written so far."""
        return b"".join(self._parts)

    def count(self, value: int) -> None:
        """Write one number from 0 to 2**32 - 1."""
        self._parts.append(value.to_bytes(4, "little"))

    def plane(self, data: bytes) -> None:
        """Write bytes whose number the reader knows."""
        if not data:
            return
        if data.count(data[0]) == len(data):
            self._parts.append(bytes((_CONSTANT, data[0])))
            return
        deflated = zlib.compress(data, 6)
        if len(deflated) + 4 < len(data):
            self._parts += [bytes((_DEFLATED,)), len(deflated).to_bytes(4, "little"), deflated]
        else:
            self._parts += [bytes((_RAW,)), data]

    def words(self, words: NDArray[np.unsignedinteger[Any]], width: int | None = None) -> None:
        """Write unsigned numbers plane by plane, the ``width`` lowest bytes of each."""
        little = np.ascontiguousarray(words.astype(words.dtype.newbyteorder("<"), copy=False))
        planes = little.view(np.uint8).reshape(words.size, words.dtype.itemsize)
        for index in range(width or words.dtype.itemsize):
            self.plane(planes[:, index].tobytes())

    def ints(self, values: NDArray[np.int64]) -> None:
        """Write whole numbers as differences: counters and constants cost almost nothing."""
        if not values.size:
            return
        differences = np.diff(values)
        zigzag = ((differences << 1) ^ (differences >> 63)).view(np.uint64)
        width = (int(zigzag.max()).bit_length() + 7) // 8 if zigzag.size else 0
        self._parts += [int(values[0]).to_bytes(8, "little", signed=True), bytes((width,))]
        if width:
            self.words(zigzag, width)

    def floats(self, values: NDArray[np.float64], precision: Precision = "single") -> None:
        """Write numbers: exact where few differ or float32 can't hold them, else as told.

        Args:
            values: ``[n]``; NaN, Inf and -0 survive.
            precision: ``exact``; ``single``, a float32; ``short``, its upper 24 bits (relative error
                2**-16); ``brief``, its upper 20 bits (2**-12). The last two are for noisy numbers
                that nobody reads to more digits.
        """
        if not values.size:
            return
        bits, index = np.unique(np.ascontiguousarray(values).view(np.uint64), return_inverse=True)
        if bits.size <= min(_MAX_DISTINCT, 1 + values.size // 16):
            self._parts += [bytes((_DICTIONARY, bits.size)), bits.astype("<u8").tobytes()]
            self.plane(index.astype(np.uint8).tobytes())
            return
        single = _single_bits(values, exact=precision == "exact")
        if single is None:
            self._parts.append(bytes((_DOUBLE,)))
            self.words(values.view(np.uint64))
            return
        dropped = _DROPPED_BITS[precision]
        words = _rounded(single, dropped)
        if words is None:
            words, dropped = single, 0
        self._parts.append(min((_differences(words, dropped, order) for order in (1, 2)), key=len))


def _single_bits(values: NDArray[np.float64], *, exact: bool) -> NDArray[np.uint32] | None:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    tiny = np.finfo(np.float32).tiny
    kept = (single == values) | np.isnan(values)
    if not exact:
        kept |= np.isfinite(single) & (np.abs(single) >= tiny)
    single[np.isnan(single)] = np.nan
    return single.view(np.uint32) if kept.all() else None


def _rounded(bits: NDArray[np.uint32], dropped: int) -> NDArray[np.uint32] | None:
    """The upper bits, rounded; None where a number is too large or small for that."""
    half = np.uint32(1 << dropped >> 1)
    rounded = np.where(np.isfinite(bits.view(np.float32)), bits + half, bits) >> np.uint32(dropped)
    back = (rounded << np.uint32(dropped)).view(np.float32)
    values = bits.view(np.float32)
    denormal = (np.abs(values) < np.finfo(np.float32).tiny) & (values != 0)
    same = (np.isfinite(back) == np.isfinite(values)) & ~(denormal & (dropped > 0))
    return rounded if same.all() else None


def _differences(words: NDArray[np.uint32], dropped: int, order: int) -> bytes:
    """Write differences of the given order: the first suits noise, the second a smooth schedule."""
    mask = np.uint32(0xFFFFFFFF >> dropped)
    steps = words
    for _ in range(order):
        steps = np.diff(steps, prepend=np.uint32(0))
    out = PlaneWriter()
    out.words(steps & mask, 4 - dropped // 8)
    return bytes((_FLOATS + 2 * dropped + order - 1,)) + out.getvalue()


class PlaneReader:
    """Reads what a `PlaneWriter` wrote, in the same order."""

    def __init__(self, data: bytes) -> None:
        """Start at the first byte of ``data``."""
        self._data = data
        self._at = 0

    def count(self) -> int:
        """Read one number."""
        return int.from_bytes(self._take(4), "little")

    def plane(self, size: int) -> NDArray[np.uint8]:
        """Read ``size`` bytes."""
        if not size:
            return np.zeros(0, np.uint8)
        kind = self._take(1)[0]
        if kind == _CONSTANT:
            return np.full(size, self._take(1)[0], np.uint8)
        if kind == _RAW:
            return np.frombuffer(self._take(size), np.uint8)
        if kind != _DEFLATED:
            raise _damaged()
        return self._inflate(size)

    def words(
        self, size: int, dtype: type[np.unsignedinteger[Any]], width: int | None = None
    ) -> NDArray[Any]:
        """Read ``size`` unsigned numbers of which ``width`` bytes were written."""
        itemsize = np.dtype(dtype).itemsize
        planes = np.zeros((size, itemsize), np.uint8)
        for index in range(width or itemsize):
            planes[:, index] = self.plane(size)
        little = planes.view(np.dtype(dtype).newbyteorder("<")).reshape(size)
        words: NDArray[Any] = little.astype(dtype, copy=False)
        return words

    def ints(self, size: int) -> NDArray[np.int64]:
        """Read ``size`` whole numbers."""
        if not size:
            return np.zeros(0, np.int64)
        first = int.from_bytes(self._take(8), "little", signed=True)
        width = self._take(1)[0]
        values = np.full(size, first, np.int64)
        if width:
            zigzag = self.words(size - 1, np.uint64, width)
            differences = (zigzag >> np.uint64(1)).view(np.int64) ^ -(zigzag & np.uint64(1)).view(np.int64)
            np.cumsum(differences, out=values[1:])
            values[1:] += first
        return values

    def floats(self, size: int) -> NDArray[np.float64]:
        """Read ``size`` numbers."""
        if not size:
            return np.zeros(0, np.float64)
        kind = self._take(1)[0]
        if kind == _DICTIONARY:
            distinct = self._take(1)[0]
            table = np.frombuffer(self._take(8 * distinct), "<f8").astype(np.float64)
            values: NDArray[np.float64] = table[self.plane(size)]
            return values
        if kind == _DOUBLE:
            return self.words(size, np.uint64).view(np.float64)
        if kind < _FLOATS:
            raise _damaged()
        dropped, order = (kind - _FLOATS) // 2, (kind - _FLOATS) % 2 + 1
        words = self.words(size, np.uint32, 4 - dropped // 8)
        for _ in range(order):
            words = np.cumsum(words, dtype=np.uint32)
        bits: NDArray[np.uint32] = words << np.uint32(dropped)
        return bits.view(np.float32).astype(np.float64)

    def _inflate(self, size: int) -> NDArray[np.uint8]:
        deflated = self._take(int.from_bytes(self._take(4), "little"))
        try:
            data = zlib.decompress(deflated)
        except zlib.error:
            raise _damaged() from None
        if len(data) != size:
            raise _damaged()
        return np.frombuffer(data, np.uint8)

    def _take(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) != size:
            raise _damaged()
        self._at += size
        return data


def _damaged() -> RunFileError:
    return RunFileError("a packed chunk of the run is damaged: its bytes can't be unpacked.")
